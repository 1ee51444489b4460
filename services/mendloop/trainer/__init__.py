"""The trainer: turns a training job into a checkpoint, once.

Consumes LoopRequested (the base of a run), DataBatchReady (new data) and InterventionPlanned (a training fix); produces
CheckpointReady, or TrainingFailed with its evidence. Owns data order, health checks before the first step, resume
points and the training report.
Promises: nothing is trained twice; a training that was killed ends with the same bytes as one that was not (CPU).
"""
