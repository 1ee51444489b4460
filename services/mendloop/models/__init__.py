"""Checkpoints and generation backends, used by several services. Heavy imports stay in the backends."""
