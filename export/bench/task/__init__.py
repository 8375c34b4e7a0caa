"""Task fidelity: whether networks see in decoded pictures what they see in the originals."""
