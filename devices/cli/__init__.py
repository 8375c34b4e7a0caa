"""The commands `edgesem device ...`."""
