"""What a training sees, in which order, and whether it is healthy. Knows token ids; knows neither models nor files."""
