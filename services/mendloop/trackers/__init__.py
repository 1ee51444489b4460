"""A run in other people's experiment trackers: MLflow (mendloop[mlflow]) and Weights & Biases (mendloop[wandb])."""
