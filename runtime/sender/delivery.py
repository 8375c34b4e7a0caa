"""Handles of promised frames: what `StreamSender.promise` returns, to wait on until a receiver keeps the frame."""

from __future__ import annotations

import threading


class DeliveryHandle:
    """What has become of one promised frame. Thread-safe.

    waiting -> stored (in the spool, on disk) -> done (a receiver has it on its own disk)
            -> refused (not promised: cannot be coded, or the spool is full; or nobody takes it: a dead letter)

    If the sender is closed before, a stored frame is sent by the next start with the same folder; this handle does not
    hear of that.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._stored = self._done = False
        self._refused = ""

    def __repr__(self) -> str:
        state = "done" if self.done else f"refused: {self.refused}" if self.refused else ""
        return f"DeliveryHandle({state or ('stored' if self.stored else 'waiting')})"

    @property
    def stored(self) -> bool:
        """Whether the frame was put on this device's disk: from then on it survives a crash or a power cut."""
        return self._stored

    @property
    def done(self) -> bool:
        """Whether a receiver has said that it keeps the frame on its own disk."""
        return self._done

    @property
    def refused(self) -> str:
        """Why the frame is not promised, or is a dead letter now; empty if it is promised, or waits to be."""
        return self._refused

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until a receiver keeps the frame; True if it does.

        False after `timeout_s` seconds, and at once if the frame was refused or the sender was closed. With None it
        waits as long as that takes, which without a receiver that keeps frames is until the sender is closed.
        """
        self._ended.wait(timeout_s)
        return self._done

    def mark_stored(self) -> None:
        """Called by the sender: the frame is on disk."""
        self._stored = True

    def complete(self) -> None:
        """Called by the sender: a receiver keeps the frame."""
        self._done = True
        self._ended.set()

    def refuse(self, reason: str) -> None:
        """Called by the sender: the frame cannot be promised, or nobody takes it."""
        self._refused = reason
        self._ended.set()

    def close(self) -> None:
        """Called by the sender at its end: nothing more will be heard of this frame."""
        self._ended.set()


class DeliveryHandles:
    """Handles of the frames whose caller wants to know what becomes of them, by epoch and frame. Thread-safe."""

    def __init__(self) -> None:
        self._handles: dict[tuple[int, int], DeliveryHandle] = {}

    def add(self, key: tuple[int, int], handle: DeliveryHandle | None) -> None:
        """A frame is promised; without a handle nobody asks."""
        if handle is not None:
            self._handles[key] = handle

    def leave(self, key: tuple[int, int]) -> None:
        """Nothing more will be heard of a frame."""
        self._handles.pop(key, None)

    def mark_stored(self, key: tuple[int, int]) -> None:
        """As that of the handle, if there is one; so are the next."""
        if (handle := self._handles.get(key)) is not None:
            handle.mark_stored()

    def complete(self, key: tuple[int, int]) -> None:
        """A receiver keeps it."""
        if (handle := self._handles.get(key)) is not None:
            handle.complete()

    def refuse(self, key: tuple[int, int], reason: str) -> None:
        """It cannot be promised, or nobody takes it."""
        if (handle := self._handles.get(key)) is not None:
            handle.refuse(reason)

    def close(self) -> None:
        """The sender ends."""
        for handle in list(self._handles.values()):
            handle.close()
