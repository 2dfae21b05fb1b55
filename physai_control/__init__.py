"""L4: the C control core, its gate and its node."""
