"""Evaluator: measures checkpoints in shards and finds the slices on which they are weak.

Owns evaluation items, outcomes and the sealed holdout. Consumes CheckpointReady, EvaluationShard, ShardScored,
InterventionPlanned (evaluation fix); produces EvaluationShard, ShardScored, EvalCompleted, EvalFailed.
Promises: a finished shard is never scored twice; nothing of a sealed item but counts leaves its own store.
"""
