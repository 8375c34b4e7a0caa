"""Perceptual metrics that need a network: LPIPS, DISTS, and the weights that they take from the user's files."""
