"""How an evaluation is done: loaded checkpoints and stored shards."""
