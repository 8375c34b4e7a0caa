"""Congestion control: capacity estimate, byte budget, frame rate."""
