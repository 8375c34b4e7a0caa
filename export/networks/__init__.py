"""Trainable networks, as torch modules."""
