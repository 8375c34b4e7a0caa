"""Training data: crops of photographs, clips, and sequences."""
