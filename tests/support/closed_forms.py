"""Information measures that have a formula, in bits: what iterations and estimators are checked against.

Source: Cover and Thomas, "Elements of Information Theory", 2nd edition, 2006.
"""

import math


def binary_entropy(p):
    """H_b(p)."""
    return -sum(share * math.log2(share) for share in (p, 1 - p) if share > 0)


def binary_symmetric_capacity(flip):
    """Of a channel that turns each bit with probability `flip`."""
    return 1 - binary_entropy(flip)


def binary_erasure_capacity(erased):
    """Of a channel that loses each bit, and says so, with probability `erased`."""
    return 1 - erased


def binary_rate(p, distortion):
    """R(D) of a Bernoulli(p) source under Hamming distortion."""
    return binary_entropy(p) - binary_entropy(distortion) if distortion < min(p, 1 - p) else 0.0


def gaussian_rate(variance, distortion):
    """R(D) of a Gaussian source under squared error."""
    return max(0.0, math.log2(variance / distortion) / 2)


def gaussian_information(correlation):
    """I(X; Y) of two Gaussians."""
    return -math.log2(1 - correlation**2) / 2
