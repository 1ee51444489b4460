"""The diagnostician: why a slice is weak.

Owns probes, evidence and verdicts. Consumes EvalFailed; produces exactly one DiagnosisReady for each.
Promises: no verdict without its evidence, the same verdict on two disjoint samples of failures, abstention otherwise.
"""
