"""The receiver's HTTP server."""
