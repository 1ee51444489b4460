"""The controller: decides what a run does next, what it may spend, and whether a candidate may stand.

Owns fan-in, budgets, interventions, gates and the run's state in SQL. Promises one decision per round and one
LoopFinished per run, whatever the order in which events arrive and however often.
Consumes LoopRequested, LoopCancelled, LoopSteered, CheckpointReady, TrainingFailed, EvalCompleted, DiagnosisReady,
ApprovalGiven, DataBatchReady, DeadLetter. Produces ApprovalRequested, InterventionPlanned, DataBatchReady (what people
left of a batch), CheckpointPromoted, CheckpointRejected, CheckpointRolledBack, ArmCompared, BudgetExceeded,
LoopFinished.
"""
