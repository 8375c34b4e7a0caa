"""Sender, receiver and broker as services."""
