"""Catalogue: what several receivers took, in one PostgreSQL, and their packets in one place."""
