"""Turns a recipe into a run: checks everything that it names, stores it, and asks for the loop."""
