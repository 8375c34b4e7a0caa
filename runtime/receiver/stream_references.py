"""References of one stream: the decoded latents that its inter frames may refer to, of each sender apart."""

from __future__ import annotations

from collections import OrderedDict

from runtime.receiver.held_latent import HeldLatent


class ReferenceBuffer:
    """Decoded latents that later packets may refer to, by epoch, frame and number of layers; the `size` used last.

    Not thread-safe.
    """

    def __init__(self, size: int = 12) -> None:
        self._size = size
        self._latents: OrderedDict[tuple[int, int, int], HeldLatent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._latents)

    def put(self, epoch: int, frame: int, layers: int, latent: HeldLatent) -> None:
        """Keep a latent. The one used longest ago goes if they become too many, and all of another epoch go at once."""
        key = (epoch, frame, layers)
        if any(old[0] != epoch for old in self._latents):
            self._latents.clear()
        self._latents[key] = latent
        self._latents.move_to_end(key)
        while len(self._latents) > self._size:
            self._latents.popitem(last=False)

    def get(self, epoch: int, frame: int, layers: int) -> HeldLatent | None:
        """The latent, if it is still here; it counts as used now, so that it stays."""
        latent = self._latents.get((epoch, frame, layers))
        if latent is not None:
            self._latents.move_to_end((epoch, frame, layers))
        return latent

    @property
    def size_bytes(self) -> int:
        """Memory of all latents."""
        return sum(latent.size_bytes for latent in self._latents.values())

    def drop_before(self, frame: int) -> None:
        """Forget the latents of earlier frames."""
        for key in [key for key in self._latents if key[1] < frame]:
            del self._latents[key]

    def drop_oldest(self) -> None:
        """Forget the latent that was used longest ago, if there is one."""
        if self._latents:
            self._latents.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._latents.clear()


class StreamReferences:
    """Reference buffers of one stream by epoch: one, and two while two senders share the name. Not thread-safe."""

    def __init__(self) -> None:
        self._buffers: OrderedDict[int, ReferenceBuffer] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._buffers.values()))

    def has_any(self, epoch: int) -> bool:
        """Whether there is a latent of an epoch."""
        return bool(self._buffers.get(epoch))

    def put(self, epoch: int, frame: int, layers: int, latent: HeldLatent, *, senders: int = 1) -> None:
        """Keep a latent; the epochs that were used longest ago go if there are more of them than `senders`."""
        self._buffers.setdefault(epoch, ReferenceBuffer()).put(epoch, frame, layers, latent)
        self._buffers.move_to_end(epoch)
        while len(self._buffers) > senders:
            self._buffers.popitem(last=False)

    def get(self, epoch: int, frame: int, layers: int) -> HeldLatent | None:
        """The latent, if it is still here; it counts as used now, so that it stays."""
        buffer = self._buffers.get(epoch)
        return None if buffer is None else buffer.get(epoch, frame, layers)

    @property
    def size_bytes(self) -> int:
        """Memory of all latents."""
        return sum(buffer.size_bytes for buffer in self._buffers.values())

    def drop_before(self, epoch: int, frame: int) -> None:
        """Forget the latents of earlier frames of an epoch."""
        if epoch in self._buffers:
            self._buffers[epoch].drop_before(frame)

    def drop_oldest(self) -> None:
        """Forget a latent, if there is one: the oldest of the epoch that was used longest ago."""
        for epoch, buffer in self._buffers.items():
            buffer.drop_oldest()
            if not len(buffer):
                del self._buffers[epoch]
            return

    def clear(self) -> None:
        """Forget all."""
        self._buffers.clear()
