"""Mendloop: measure a checkpoint, diagnose why it fails, fix the data (or not), verify before promoting."""
