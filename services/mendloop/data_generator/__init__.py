"""The data generator: examples for weak slices, under the plan's budget.

Owns sources (pool, teachers), the funnel and its ledger. Consumes InterventionPlanned (DATA); produces DataBatchReady.
Promises: every example is verified, new, in its slice and no evaluation item; never more than the plan pays for;
every drop has a reason; the same plan gives the same bytes, also where a language model taught: its replies are kept.
Has no way to read the sealed suite: it knows hashes only.
"""
