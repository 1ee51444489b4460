"""Facts about invented beings: what a model knows by heart, asked for directly and over two hops."""
