"""Metered control: congestion control of a stream that has a data budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.congestion.control import Control
from runtime.sender.data_budget import DataBudget


@dataclass
class MeteredControl(Control):
    """Congestion control that keeps to a data budget: ordinary frames wait for credit, all messages for the limit."""

    data: DataBudget = field(kw_only=True)

    def budget_bytes(self, now_s: float, *, ready_in_s: float = 0.0) -> int | None:
        """As `Control.budget_bytes`, and no more than the data budget has for a frame."""
        budget_bytes = super().budget_bytes(now_s, ready_in_s=ready_in_s)
        frame_bytes = self.data.frame_bytes()
        return None if budget_bytes is None or frame_bytes is None else min(budget_bytes, frame_bytes)

    def room(self, now_s: float, *, size_bytes: int, base: bool) -> bool:
        """As `Control.room`, and within the limits of the data budget."""
        return self.data.may_send(size_bytes) and super().room(now_s, size_bytes=size_bytes, base=base)

    def sent(self, now_s: float, *, size_bytes: int, base: bool = False) -> None:
        """As `Control.sent`."""
        super().sent(now_s, size_bytes=size_bytes, base=base)
        self.data.sending(size_bytes)
        if base:
            self.data.took_frame()
