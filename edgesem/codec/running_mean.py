"""Running mean: what does not change is averaged over frames, so that less of the sensor's noise is coded.

    mean += (latent - mean) / frames     for each position, of so many frames since it last changed

A picture that was made so is not what the sensor saw at one moment: not for evidence.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgesem.codec.latent import Latent

FRAMES = 8
"""The most that are averaged: what changes slowly lags by no more."""
CHANGED = {6: 5.0, 24: 3.5, 96: 2.5}
"""A position has changed if it is off by so many times what noise makes it off, in the mean of squares, in its first so
many channels: noise is in all alike, and changes are mostly in the first."""

Values = npt.NDArray[np.float32]


class RunningMean:
    """Running mean of one stream. Not thread-safe."""

    def __init__(self) -> None:
        self._mean = np.zeros((0, 0, 0), np.float32)
        self._frames = np.zeros((0, 0), np.float32)
        """How many frames are in the mean of each position, [h, w]."""

    def add(self, latent: Latent, noise: Values | None) -> Latent:
        """The mean of frames up to this one, a latent straight from the encoder, where nothing has changed.

        noise: variance of each channel, [96, 1, 1]; None: not known yet, and the latent is returned as it is.
        """
        values = latent.values
        if noise is None or self._mean.shape != values.shape:
            self._mean, self._frames = values, np.ones(values.shape[1:], np.float32)
            return latent
        off = np.square(values - self._mean) / np.maximum(noise, np.float32(1e-9)) / (1 + 1 / self._frames)
        stays = np.logical_and.reduce([off[:count].mean(0) < limit for count, limit in CHANGED.items()])
        self._frames = np.where(stays, np.minimum(self._frames + 1, np.float32(FRAMES)), np.float32(1))
        self._mean = np.where(stays, self._mean + (values - self._mean) / self._frames, values)
        return replace(latent, values=self._mean)
