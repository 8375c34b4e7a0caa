"""What the bits mean: information about a task kept at each size."""
