"""The boards: what each one is, and how it is set up and deployed to."""
