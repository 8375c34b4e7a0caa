"""Benchmarks of the device: links and change detection."""
