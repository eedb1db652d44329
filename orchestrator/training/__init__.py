"""One worker's work: models, the loop, checkpoints, metrics. torch, and no Ray."""
