"""Results made elsewhere as outcomes: lm-evaluation-harness samples, inspect_ai logs, plain JSONL, Outcome Parquet.

`reading.read_results` is the way in; docs/outcomes.md documents the formats.
"""
