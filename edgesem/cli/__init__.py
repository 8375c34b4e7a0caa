"""The command line: the front door, and the commands that both ends share."""
