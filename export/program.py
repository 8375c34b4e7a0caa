"""Folders of sources that make a bundle or a bench's figures, for `edgesem.sources.program_digest`."""

PACKAGES = ("edgesem", "export")
"""What makes a bundle."""
FIGURES = ("edgesem", "export/bench", "export/data", "export/metrics")
"""What makes a figure of a bench."""
