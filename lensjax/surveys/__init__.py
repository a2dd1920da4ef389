"""Survey files in, dicts of float32 arrays out."""
