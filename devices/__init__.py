"""Boards: what each kind is, how it is set up, and how releases are deployed to it."""
