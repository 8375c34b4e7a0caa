"""The networks that are trained, as torch modules."""
