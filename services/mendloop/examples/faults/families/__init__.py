"""The task families in which faults are planted."""
