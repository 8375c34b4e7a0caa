"""Export: from trained networks to a checked bundle."""
