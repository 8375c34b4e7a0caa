"""Link traces for tests."""

import numpy as np

from edgesem.trace import Trace


def trace_of(rate_bps, seconds=1):
    """A link of one constant rate."""
    return Trace("test", np.full(seconds * 1000, rate_bps / 8000))
