"""Settings of events: those of a sender, which makes them, and of a receiver, which gathers them."""

from __future__ import annotations

from dataclasses import dataclass

from edgesem.config import setting
from edgesem.errors import UsageError
from edgesem.packet.event_mark import CAUSES
from runtime.capture.gpio_line import BIASES, EDGES, GpioPin
from runtime.daemon.event_hooks import WebhookUrl
from runtime.receiver.times import parse_span
from runtime.sender.event_recorder import EventOptions


@dataclass(frozen=True)
class EventSettings:
    """Events of a sender: promised frames from before and after something happens."""

    on: bool = False
    """Whether events are made; without it nothing is kept in memory."""
    before: str = "5s"
    """Frames of so long before an event belong to it, 120 s at most."""
    after: str = "10s"
    """And of so long after."""
    fps: float = setting(1.0, low=0.05, high=15)
    """Frames a second of an event."""
    frame_bytes: int = setting(4000, low=256, high=65535)
    """Size limit of each of its frames."""
    memory_bytes: int = setting(16 << 20, low=1 << 20, high=2**40)
    """Memory of the frames from before, and as much again of those that wait to be coded."""
    longest: str = "2min"
    """What goes on for longer becomes another event."""
    most_an_hour: int = setting(30, low=0, high=1_000_000)
    """With more events in an hour the others are left out; 0: however many there are."""
    novelty: float = setting(2.0, low=1, high=100)
    """With watch.send_on = "change": how new a frame must be to make an event, in the thresholds of that; more: fewer
    events."""
    causes: tuple[str, ...] = CAUSES
    """What makes events: ask (`edgesem ask event`), watch (what watch.queries find), change (with watch.send_on =
    "change"), gpio."""
    gpio: str = ""
    """GPIO line that makes events: CHIP:LINE, such as gpiochip0:17."""
    gpio_edge: str = setting("rising", one_of=EDGES)
    """Which edge of it does."""
    gpio_bias: str = setting("as-is", one_of=BIASES)
    """Resistor at the line."""
    gpio_debounce_s: float = setting(0.05, low=0, high=10)
    """A level that holds for less is no edge."""

    def __post_init__(self) -> None:
        self.options()
        if self.pin() is not None and not self.on:
            raise UsageError("event.gpio makes events, so event.on belongs to it")

    def options(self) -> EventOptions | None:
        """What the sender is told; None without events. Raises UsageError for a value that cannot be."""
        options = EventOptions(
            before_s=parse_span(self.before, "event.before"),
            after_s=parse_span(self.after, "event.after"),
            fps=self.fps,
            frame_bytes=self.frame_bytes,
            memory_bytes=self.memory_bytes,
            longest_s=parse_span(self.longest, "event.longest"),
            most_an_hour=self.most_an_hour,
            novelty=self.novelty,
            causes=self.causes,
        )
        return options if self.on else None

    def pin(self) -> GpioPin | None:
        """The line that makes events. Raises UsageError if it is none."""
        if not self.gpio:
            return None
        return GpioPin.parse(self.gpio, edge=self.gpio_edge, bias=self.gpio_bias, debounce_s=self.gpio_debounce_s)


@dataclass(frozen=True)
class GatherSettings:
    """Events at a receiver: what is called when one begins, and when its clip is there. Needs out.folder."""

    command: tuple[str, ...] = ()
    """Program and its arguments, without a shell; what happened is in its environment and on its standard input."""
    webhook: str = ""
    """URL, http or https, to which event and picture are posted as a form."""
    timeout_s: float = setting(30.0, low=0.1, high=600)
    """What takes longer is ended."""
    quiet_s: float = setting(30.0, low=0.5, high=86400)
    """A clip is made without the frames that are missing when none has come for so long."""

    def __post_init__(self) -> None:
        if self.webhook:
            WebhookUrl.parse(self.webhook)
        if self.command and not self.command[0]:
            raise UsageError("event.command begins with the name of a program")

    @property
    def active(self) -> bool:
        """Whether something is to be called."""
        return bool(self.command or self.webhook)
