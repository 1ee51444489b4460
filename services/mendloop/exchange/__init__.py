"""A batch as a data set for people and their tools, and back.

Owns the formats (Hugging Face data set, Label Studio, Argilla, JSONL), the card with the lineage, and what people's
annotations make of a batch. Knows stores and lineage; knows neither a bus nor a service.
"""
