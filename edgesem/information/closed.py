"""The cases that have a formula, in bits: what the iterations and estimators are checked against.

Sources: Cover and Thomas, "Elements of Information Theory" (binary, Gaussian); Niu and Zhang, arXiv:2401.13387
(semantic Gaussian channel); Blau and Michaeli, arXiv:1901.07821 (binary rate-distortion-perception); Zhang, Qian, Chen
and Khisti, arXiv:2106.10311 (Gaussian rate-distortion-perception).
"""

from __future__ import annotations

import math

from edgesem.errors import UsageError
from edgesem.information.discrete import entropy_of, probabilities


def binary_entropy(p: float) -> float:
    """H_b(p)."""
    return entropy_of(probabilities([p, 1 - p]))


def binary_symmetric_capacity(flip: float) -> float:
    """Of a channel that turns each bit with probability `flip`."""
    return 1 - binary_entropy(flip)


def binary_erasure_capacity(erased: float) -> float:
    """Of a channel that loses each bit, and says so, with probability `erased`."""
    return 1 - erased


def binary_rate(p: float, distortion: float) -> float:
    """R(D) of a Bernoulli(p) source under Hamming distortion."""
    return binary_entropy(p) - binary_entropy(distortion) if distortion < min(p, 1 - p) else 0.0


def binary_rate_perception(p: float, distortion: float, divergence: float) -> float:
    """R(D, P) of a Bernoulli(p) source, p <= 1/2, under Hamming distortion and total variation."""
    _within(p, 0, 0.5)
    q, gone = 1 - p, min(divergence, p)
    first = gone / (1 - 2 * (p - gone)) if p < 0.5 or gone else 0.0
    if distortion <= first:
        return binary_rate(p, distortion)
    if distortion >= 2 * p * q - (q - p) * gone:
        return 0.0
    joint = [(distortion - gone) / 2, (distortion + gone) / 2]
    cells = [joint[0], p - joint[1], joint[1], q - joint[0]]
    return binary_entropy(p) + binary_entropy(p - gone) - entropy_of(probabilities(cells))


def gaussian_rate(variance: float, distortion: float) -> float:
    """R(D) of a Gaussian source under squared error."""
    return max(0.0, math.log2(variance / distortion) / 2)


def gaussian_rate_perception(deviation: float, distortion: float, divergence: float) -> float:
    """R(D, P) of a Gaussian source under squared error, P the Wasserstein-2 distance (not its square)."""
    variance = deviation**2
    if divergence > deviation - math.sqrt(abs(variance - distortion)):
        return gaussian_rate(variance, distortion)
    drawn = deviation - divergence
    correlation = max(0.0, (variance + drawn**2 - distortion) / (2 * deviation * drawn))
    return -math.log2(1 - correlation**2) / 2


def distortion_perception(mmse: float, divergence_of_mean: float, divergence: float) -> float:
    """D(P) at one rate under squared error: MMSE + ((P* - P)+)^2, P* the Wasserstein-2 distance of the posterior mean.

    At P = 0, perfect realism, it is at most 2 MMSE: 3 dB.
    """
    return mmse + max(0.0, divergence_of_mean - divergence) ** 2


def gaussian_information(correlation: float) -> float:
    """I(X; Y) of two Gaussians."""
    return -math.log2(1 - correlation**2) / 2


def gaussian_capacity(bandwidth_hz: float, power: float, noise_density: float) -> float:
    """Shannon's B log2(1 + P / (N0 B)), in bits a second."""
    return bandwidth_hz * math.log2(1 + power / (noise_density * bandwidth_hz))


def gaussian_semantic_capacity(
    bandwidth_hz: float, power: float, noise_density: float, synonymous_length: float
) -> float:
    """B log2(S^4 (1 + P / (N0 B))) in bits a second; S = 1 is Shannon's. The surplus 4 B log2 S is by definition."""
    if synonymous_length < 1:
        raise UsageError(f"a synonymous length is at least 1, got {synonymous_length:g}")
    surplus = 4 * bandwidth_hz * math.log2(synonymous_length)
    return gaussian_capacity(bandwidth_hz, power, noise_density) + surplus


def _within(value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{value:g} is not within {low:g} to {high:g}")
