"""Bench run in simulated time with real coding: edgesem's sender beside one of AV1, over the same model of a link.

Behind the broker a receiver may lose what comes in some tenths of a second, and a second receiver may come later.

Pictures are encoded and decoded as the run goes, but that takes no simulated time: so a busy machine changes nothing,
and neither sender pays for its processor. Quality is that of what the viewer sees at each moment, against what the
camera sees at that moment: a picture that is late, or stays because no other comes, counts as what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgesem.codec.codec import Codec
from edgesem.errors import UsageError
from edgesem.quality.metrics import ms_ssim
from edgesem.trace import Trace
from runtime.bench.link.av1_sender import Av1Options
from runtime.bench.link.baselines import make_control
from runtime.bench.link.bench import Options, Outcome
from runtime.bench.link.clip import Image, ping_pong
from runtime.bench.link.figures import ages, percentile
from runtime.bench.link.link_queue import LinkQueue
from runtime.bench.link.live_ends import Ends, LinkPath, SemanticEnds, VideoEnds
from runtime.bench.link.live_receivers import Receiver, Subscription
from runtime.bench.link.model import TAIL_S, UNLIMITED_BYTES, TcpModel
from runtime.congestion.control import Control

PHASES = 4
"""Pictures of the clip for each frame that the camera takes: what there is to see meanwhile."""
LOOKS = 2
"""How often what is shown is judged for each frame."""
_GOLDEN = 0.618034
MAX_IMAGES = 240
SENDERS: dict[str, Av1Options | None] = {
    "edgesem": None,
    "av1-p8": Av1Options(preset=8, rtc=False),
    "av1-p10-rtc": Av1Options(preset=10, rtc=True),
    "av1-p8-crf": Av1Options(preset=8, rtc=False, constant_quality=True, margin=0.3),
    "av1-p4": Av1Options(preset=4, rtc=False),
    "av1-p4-crf": Av1Options(preset=4, rtc=False, constant_quality=True, margin=0.3),
}
"""Senders to compare, and how each uses SVT-AV1; None: edgesem's own."""


def run_live(sender: str, *, images: list[Image], codec: Codec, trace: Trace, options: Options) -> Outcome:
    """The figures of one sender of SENDERS; `images` are PHASES for each frame, and go back and forth.

    UsageError for promised frames, which the model does not have, and for a receiver that comes after the end.
    """
    if options.promise_every:
        raise UsageError("--peers does not know --promise-every: leave it out")
    if options.late_s is not None and options.late_s >= options.seconds:
        raise UsageError(f"--late {options.late_s:g}: the run is over after {options.seconds:g} s")
    link = LinkQueue(
        trace=trace, start_s=0.0, offset_s=options.offset_s, delay_s=options.delay_s, queue_bytes=UNLIMITED_BYTES
    )
    path = LinkPath(TcpModel(link, options.delay_s), options.delay_s)
    av1 = SENDERS[sender]
    control = make_control(
        "edgesem" if av1 is None else "whole",
        interval_s=1 / options.fps,
        trace=trace,
        start_s=0.0,
        offset_s=options.offset_s,
        unacked_bytes=lambda: path.tcp.unacked_bytes,
        refers=True,
    )
    assert isinstance(control, Control)
    since_s = [0.0, *([] if options.late_s is None else [options.late_s])]
    subscriptions = [Subscription(number, at_s, options.loss) for number, at_s in enumerate(since_s, 1)]
    size = images[0].shape[1], images[0].shape[0]
    ends: Ends
    if av1 is None:
        ends = SemanticEnds(codec, path, control, size=size, subscriptions=subscriptions)
    else:
        ends = VideoEnds(av1, path, control, options.fps, size=size, subscriptions=subscriptions)
    receivers: Sequence[Receiver] = ends.receivers
    viewers = [Viewer(images, options.fps, at_s) for at_s in since_s]
    ticks = 0
    for ms in range(round((options.seconds + TAIL_S) * 1000)):
        path.now_s = ms / 1000
        path.tcp.step(path.now_s)
        if ticks < min(options.seconds, path.now_s + 1e-9) * options.fps:
            ends.offer(ticks, images[ping_pong(PHASES * ticks, len(images))])
            ticks += 1
        ends.step()
        if path.now_s < options.seconds:
            for viewer, receiver in zip(viewers, receivers, strict=True):
                viewer.look(path.now_s, receiver.picture)
    ends.close()
    first, *late = receivers
    age = ages(0.0, options.seconds, first.arrivals)
    shown = len({captured_s for _, captured_s in first.arrivals})
    figures = {
        "quality": viewers[0].quality,
        "age_p50_s": percentile(age, 50),
        "age_p95_s": percentile(age, 95),
        "delay_p50_s": percentile([at_s - captured_s for at_s, captured_s in first.arrivals], 50),
        "sent_bytes": path.sent_bytes,
        "bytes_per_s": path.sent_bytes / options.seconds,
        "frames": ticks,
        "shown": shown,
        "skipped": ticks - shown,
        "keyframes": ends.keyframes,
        "background_keyframes": ends.background_keyframes,
        "encode_cpu_s": percentile(ends.encode_s, 50),
    }
    for viewer, receiver in zip(viewers[1:], late, strict=True):
        begun_s = receiver.subscription.since_s
        figures["late_quality"] = viewer.quality
        figures["late_first_s"] = receiver.arrivals[0][0] - begun_s if receiver.arrivals else None
    return Outcome(figures, {})


class Viewer:
    """Who looks at the screen LOOKS times a frame from `since_s` on, and compares it with what the camera sees then.

    At other places of the interval each time (multiples of the golden ratio): else delays that lie between the same two
    looks would count alike.
    """

    def __init__(self, images: list[Image], fps: float, since_s: float = 0.0) -> None:
        self._images, self._fps, self._since_s = images, fps, since_s
        self._total, self._looks = 0.0, 0

    @property
    def quality(self) -> float:
        """Mean MS-SSIM of all looks; one before the first picture counts 0."""
        return self._total / max(1, self._looks)

    def look(self, now_s: float, shown: Image | None) -> None:
        """What is shown now is `shown`; to be called each millisecond or so."""
        due_s = self._since_s + (self._looks + self._looks * _GOLDEN % 1) / (LOOKS * self._fps)
        if now_s < due_s:
            return
        if shown is not None:
            self._total += ms_ssim(self._images[ping_pong(int(due_s * PHASES * self._fps), len(self._images))], shown)
        self._looks += 1
