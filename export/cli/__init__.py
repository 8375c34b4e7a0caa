"""Commands of the workstation, one file a command or a family."""
