"""Entropy coder: symbols to bytes and back in integer arithmetic, in the order of the pass schedule."""
