"""Probes that read stored outputs, the corpus or a training report; none of them asks a model."""
