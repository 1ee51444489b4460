"""How a cause is decided: cases, evidence, probes that need no model, verdicts. Pure."""
