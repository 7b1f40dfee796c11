"""Training for `cb`: architectures, datasets, experiment tracking, checkpoints."""
