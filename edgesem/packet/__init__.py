"""The packet: one coded picture as bytes, its side information, and its seal."""
