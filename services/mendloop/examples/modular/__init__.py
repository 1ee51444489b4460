"""Arithmetic modulo 7 from left to right, with worked steps, named constants and facts given in the prompt."""
