"""Releases: built, sent over SSH, activated, and rolled back."""
