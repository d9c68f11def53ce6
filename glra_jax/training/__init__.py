"""Training: configuration, batches, losses, optimisers, the step and its checkpoints."""
