"""Settings of `edgesem send`, from a TOML file or from flags; its sections are in `runtime.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgesem.config import setting
from edgesem.errors import UsageError
from runtime.daemon.event_settings import EventSettings
from runtime.daemon.send_schedule import Position, Schedule
from runtime.mqtt.settings import BrokerSettings
from runtime.sender.data_budget import DataLimits
from runtime.sender.options import SenderOptions
from runtime.settings import (
    MonitorSettings,
    PromiseSettings,
    SealSettings,
    SourceSettings,
    StreamSettings,
    TriggerSettings,
)


@dataclass(frozen=True)
class OnceSettings:
    """One wake: a few frames, and the end. They are promised if `promise.every` is not 0."""

    frames: int = setting(0, low=0, high=1000)
    """Take so many frames, the newest there are, wait until a receiver has them, and end; 0: go on for ever."""
    deadline_s: float = setting(120.0, low=1, high=86400)
    """End so many seconds after the program's start in any case."""
    warm_up_s: float = setting(0.0, low=0, high=600)
    """Leave out what a camera gives in its first seconds, while it finds its exposure."""


@dataclass(frozen=True)
class LiveSettings:
    """Whether pictures are sent always, or only while somebody watches."""

    mode: str = setting("always", one_of=("always", "on-demand"))
    """on-demand: thumbnails only, until a receiver says that somebody watches."""
    idle_every_s: float = setting(30.0, low=1, high=3600)
    """With on-demand: while nobody watches, a thumbnail each so many seconds."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Frame rates by time of day, for a camera that stays awake."""

    rules: tuple[str, ...] = ()
    """Each FROM..TO=FPS, such as "sunset..sunrise=0.1" or "22:00..05:30=0"; the first that holds counts."""
    latitude: float | None = setting(None, low=-90, high=90)
    """Of the camera, in degrees; north is positive. For sunrise and sunset."""
    longitude: float | None = setting(None, low=-180, high=180)
    """East is positive."""

    def __post_init__(self) -> None:
        if (self.latitude is None) != (self.longitude is None):
            raise UsageError("schedule.latitude and schedule.longitude belong together: name both")
        self.schedule()

    def schedule(self) -> Schedule:
        """The schedule that is written here. Raises UsageError for a rule that is none."""
        known = self.latitude is not None and self.longitude is not None
        return Schedule(self.rules, Position(self.latitude, self.longitude) if known else None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DataSettings:
    """Data budget: what may go over the wire, in both directions, with all that MQTT, TLS, TCP and IP add."""

    hour_mb: float = setting(0.0, low=0, high=1e6)
    """Megabytes (of 1,000,000 bytes) an hour; 0: no limit."""
    day_mb: float = setting(0.0, low=0, high=1e6)
    """A day, from midnight to midnight by the device's clock."""
    month_mb: float = setting(0.0, low=0, high=1e6)
    """A billing month."""
    month_day: int = setting(1, low=1, high=28)
    """The day on which the billing month begins."""
    alarm_share: float = setting(0.1, low=0, high=0.9)
    """What ordinary frames leave for alarms: promised frames, as those of --watch and snapshots."""
    event_share: float = setting(0.5, low=0, high=1)
    """Of each limit, what events may have that nobody asked for (event.on), spread over the period."""
    at_end: str = setting("alarms", one_of=("alarms", "stills", "stop"))
    """When ordinary frames have used up their part: alarms go on; so does one still an hour; or nothing does."""
    frame_bytes: int = setting(1500, low=300, high=100_000)
    """Rather fewer frames than frames of less than that."""

    def limits(self) -> DataLimits | None:
        """The limits that are set here; None if there are none."""
        if not (self.hour_mb or self.day_mb or self.month_mb):
            return None
        return DataLimits(
            hour_bytes=round(1e6 * self.hour_mb),
            day_bytes=round(1e6 * self.day_mb),
            month_bytes=round(1e6 * self.month_mb),
            month_day=self.month_day,
            alarm_share=self.alarm_share,
            event_share=self.event_share,
            at_end=self.at_end,
            frame_bytes=self.frame_bytes,
        )


@dataclass(frozen=True)
class SendSettings:
    """Settings of `edgesem send`."""

    source: SourceSettings = field(default_factory=SourceSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    seal: SealSettings = field(default_factory=SealSettings)
    promise: PromiseSettings = field(default_factory=PromiseSettings)
    watch: TriggerSettings = field(default_factory=TriggerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    once: OnceSettings = field(default_factory=OnceSettings)
    live: LiveSettings = field(default_factory=LiveSettings)
    event: EventSettings = field(default_factory=EventSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)

    def __post_init__(self) -> None:
        if self.live.mode == "on-demand" and self.once.frames:
            raise UsageError("live.mode on-demand waits for viewers, once.frames sends and ends: choose one")
        if self.event.on and (self.once.frames or self.promise.every == 1):
            raise UsageError(
                "event.on needs a sender that goes on and promises not all: leave out once.frames and promise.every"
            )

    def options(self) -> SenderOptions:
        """The options of the sender."""
        stream = self.stream
        return SenderOptions(
            fps=stream.fps,
            max_bytes=stream.max_bytes,
            max_rate_bps=stream.max_rate_bps,
            spool_bytes=self.promise.max_bytes,
            size=(self.source.width, self.source.height),
            min_quality=stream.min_quality,
            key_interval_s=stream.key_interval_s,
            most_receivers=stream.most_receivers,
            denoise=stream.denoise,
            sharp=stream.prefer == "sharp",
            promise_every=self.promise.every,
            ack_timeout_s=self.broker.ack_timeout_s,
            idle_every_s=self.live.idle_every_s if self.live.mode == "on-demand" else 0.0,
            events=self.event.options(),
            state_interval_s=self.monitor.state_s,
        )
