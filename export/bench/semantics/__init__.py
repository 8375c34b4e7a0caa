"""Semantic measurement: information about a task that codecs keep at each size, and precision of text queries."""
