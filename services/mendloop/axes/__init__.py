"""Axis values of items and examples: rules by task, form and length for free, a language model with measured agreement.

Knows prompts and targets; knows neither outcomes nor models.
"""
