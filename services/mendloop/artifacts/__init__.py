"""The content-addressed artifact store over fsspec, and lineage manifests."""
