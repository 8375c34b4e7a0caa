"""What all tests share."""

from hypothesis import settings

settings.register_profile("edgesem", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("edgesem")
