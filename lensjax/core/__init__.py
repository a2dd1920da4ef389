"""The machinery every system shares: tasks, sharding, checkpoints, optimisers, the journal."""
