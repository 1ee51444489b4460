"""Worked examples that ship: task families and their recipes."""
