"""Everything that touches the outside world; sees the register only through its gRPC services."""
