"""Command line: the entry point, the commands that both ends share, and the console helpers."""
