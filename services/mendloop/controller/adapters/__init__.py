"""How the controller keeps its state and reads outcomes."""
