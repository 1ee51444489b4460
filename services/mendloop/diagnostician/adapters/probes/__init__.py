"""Probes that ask the model; each says so with n = 0 where there is none."""
