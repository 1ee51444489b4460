"""Where candidates come from, and how near-duplicates are found."""
