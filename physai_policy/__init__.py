"""L3: an instruction and a scene become action chunks."""
