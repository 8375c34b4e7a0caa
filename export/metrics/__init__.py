"""Perceptual metrics that need a network: LPIPS, and a distance in the manner of DISTS."""
