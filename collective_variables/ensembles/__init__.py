"""Run many networks at once: random keys, batches of members, and where their tasks run."""
