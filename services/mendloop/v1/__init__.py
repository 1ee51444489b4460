"""Generated protobuf code of package mendloop.v1. Regenerate with `make protos`."""
