"""Bundle: a folder with everything that a codec needs, and the runners of its graphs."""
