"""Processes: services and their signals, child processes, systemd, rate-limited logs."""
