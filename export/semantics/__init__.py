"""Training of the semantic head, which lets text be compared with a packet."""
