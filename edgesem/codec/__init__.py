"""The codec: frame to latent to packet, and back."""
