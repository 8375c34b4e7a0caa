"""Clips of fixed cameras: bytes a frame, quality and time, beside video codecs."""
