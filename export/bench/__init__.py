"""Benches of the workstation, one room a question: rate and distortion, video, task fidelity, semantics."""
