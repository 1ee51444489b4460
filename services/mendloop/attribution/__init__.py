"""Which training examples taught a model what it says: projected gradients, stored once, asked many times.

Owns the index, its curvature, the query and the retrieval before it; usable on its own. Knows no service.
"""
