"""The commands of the device, one file a command."""
