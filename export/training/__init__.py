"""Training loops, losses and the optimizer."""
