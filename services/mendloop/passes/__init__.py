"""Passes over a whole corpus: duplicates, decontamination, clusters. Each is a picklable function over record batches.

Runs them on one machine or on Ray with equal results; memory does not grow with the rows. Knows no service, no event.
"""
