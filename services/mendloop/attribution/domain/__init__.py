"""What influence is and how it is ranked: numbers in, numbers out. Knows neither models nor files."""
