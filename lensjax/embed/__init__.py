"""Cutouts in, ranked objects out: embeddings, neighbours, linear probe."""
