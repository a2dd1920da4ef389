"""Mock observations: one example and its truth, as pure functions of a key."""
