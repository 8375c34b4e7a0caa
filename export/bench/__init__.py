"""Benchmarks of the workstation: one room a question."""
