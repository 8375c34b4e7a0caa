"""The bundle: a folder with everything a codec needs, and the runners of its graphs."""
