"""A run as a page for people and as a document for programs: plots, evidence, decisions, lineage."""
