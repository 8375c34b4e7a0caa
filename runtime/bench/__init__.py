"""Benchmarks of the device: transport over thin links, and sending on change."""
