"""Number of CPU threads of a training run, found by its first steps: more threads are often slower on small crops."""

from __future__ import annotations

import torch

_STEPS = 3  # of each number; the first of them warms up
_FASTER = 0.95  # more threads are taken only where a step takes this share of the time at most


class ThreadTrial:
    """Trial of 1, 2, 4 ... threads, as many as torch would take; it ends with the first number that is no faster.

    It begins with one thread, because with all of a loaded machine's a single step may take half a minute. `step_s`:
    call it with the seconds of each training step.
    """

    def __init__(self) -> None:
        most = torch.get_num_threads()
        self._waiting = [count for count in (1, 2, 4, 8, 16, 32, 64, 128) if count < most] + [most]
        self._seconds: list[float] = []
        self._best: tuple[float, int] | None = None
        self.done = most == 1
        if not self.done:
            torch.set_num_threads(self._waiting[0])

    def step_s(self, seconds: float) -> None:
        """Take note of a step, and go on to the next number of threads where this one is known."""
        if self.done:
            return
        self._seconds.append(seconds)
        if len(self._seconds) < _STEPS:
            return
        took, count = min(self._seconds[1:]), self._waiting.pop(0)
        self._seconds = []
        faster = self._best is None or took < _FASTER * self._best[0]
        if faster:
            self._best = (took, count)
        assert self._best is not None
        self.done = not faster or not self._waiting
        torch.set_num_threads(self._best[1] if self.done else self._waiting[0])
