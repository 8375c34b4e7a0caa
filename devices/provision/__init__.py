"""Cards and root file systems, made ready to boot and stream."""
