"""Perceptual metrics that need a network: LPIPS, and one in the manner of DISTS."""
