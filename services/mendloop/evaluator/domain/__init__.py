"""How an evaluation is decided: shards, outcomes, weak slices. Pure."""
