"""Gradients from models, retrieval from texts."""
