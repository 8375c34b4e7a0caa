"""Settings of `edgesem send`, from a TOML file or from flags; its sections are in `runtime.settings`."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.settings import (
    BrokerSettings,
    MonitorSettings,
    PromiseSettings,
    SealSettings,
    SourceSettings,
    StreamSettings,
    TriggerSettings,
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
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
