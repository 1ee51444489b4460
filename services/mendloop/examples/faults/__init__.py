"""Planted faults: task families, a catalogue of faults, and the worlds that planting one leaves behind."""
