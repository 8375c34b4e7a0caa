"""Packet: one coded picture as bytes, its side information, its seal, and keys."""
