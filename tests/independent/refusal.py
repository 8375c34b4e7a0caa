"""The error of a reader that refuses a message."""

from __future__ import annotations


class RefusedError(ValueError):
    """A message that a receiver must drop. `reason` is one short word or two."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
