"""Task fidelity: what networks see in decoded pictures."""
