"""Processes: children, signals, systemd, rate-limited logs."""
