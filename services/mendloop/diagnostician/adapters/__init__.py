"""How probes reach a model: checkpoints and the probes that generate or score with one."""
