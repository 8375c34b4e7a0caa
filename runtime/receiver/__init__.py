"""The receiver: packets in, pictures out."""
