"""How a training is done: Hugging Face Trainer, resume points on disk."""
