"""Model judges: a port, its two implementations, and the error that is measured before a judge's word counts."""
