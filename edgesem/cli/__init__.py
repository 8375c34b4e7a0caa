"""Command line: the front door, the commands that both ends share, and the console helpers."""
