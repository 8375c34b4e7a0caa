"""Unconfirmed messages of one session: what was published, and who is told of the broker's answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from runtime.mqtt.address import Address
from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)


class SentMessage(NamedTuple):
    """A message that was published, and who is told of the broker's answer."""

    topic: str
    size_bytes: int
    confirm: Callable[[], None] | None
    refuse: Callable[[str], None] | None


class Unconfirmed:
    """Table of the messages that the broker has not answered, by paho's message id.

    `published` is called by the thread that publishes, `answered` by paho's. paho may have the answer before it has
    told us the id. Each side first notes its half, then looks for the other, so one of them finds both; a lock would
    deadlock with the one that paho holds in its callbacks.
    """

    def __init__(self, address: Address) -> None:
        self.largest_confirmed_bytes = 0
        """Size of the largest message that the broker has confirmed."""
        self._address = address
        self._lost_bytes = 0
        self._waiting: dict[int, SentMessage] = {}
        self._early: dict[int, str] = {}
        self._limited_log = RateLimitedLog(log)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def largest_bytes(self) -> int:
        """Size of the largest message that the broker has not confirmed, or has refused as too large."""
        return max([self._lost_bytes, *(sent.size_bytes for sent in list(self._waiting.values()))])

    def lost(self, size_bytes: int) -> None:
        """A message could not be published, because the connection is gone."""
        self._lost_bytes = max(self._lost_bytes, size_bytes)

    def published(self, mid: int, sent: SentMessage) -> None:
        """A message was published."""
        self._waiting[mid] = sent
        if mid in self._early:
            self._tell(mid)

    def answered(self, mid: int, refused: str) -> None:
        """The broker has confirmed a message, or refused it for this reason."""
        self._early[mid] = refused
        if mid in self._waiting:
            self._tell(mid)

    def _tell(self, mid: int) -> None:
        sent = self._waiting.pop(mid, None)
        if sent is None:
            return
        refused = self._early.pop(mid, "")
        if not refused:
            self.largest_confirmed_bytes = max(self.largest_confirmed_bytes, sent.size_bytes)
            if sent.confirm is not None:
                sent.confirm()
            return
        if "too large" in refused:
            self.lost(sent.size_bytes)
        if sent.refuse is not None:
            sent.refuse(refused)
        else:
            self._limited_log.warn("%s refuses a message on %s: %s", self._address, sent.topic, refused)
