"""Codec: frame to latent to packet, and back."""
