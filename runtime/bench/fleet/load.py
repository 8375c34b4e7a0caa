"""What a load run simulates."""

from __future__ import annotations

from dataclasses import dataclass

from edgesem.errors import UsageError


@dataclass(frozen=True)
class Load:
    """What is simulated. UsageError for what cannot be."""

    cameras: int = 100
    seconds: float = 20.0
    """How long cameras film after the warm-up."""
    warm_up_s: float = 20.0
    """How long they film before figures count: receivers learn of streams meanwhile, by their states, which come each
    10 s, where the broker hands out no retained births."""
    interval_s: float = 10.0
    """From frame to frame of a camera."""
    receivers: int = 2
    size: tuple[int, int] = (320, 240)
    budget_bytes: int = 3000
    inter_frames: bool = True
    """Cameras refer to frames that receivers hold; without, all frames are keyframes."""
    promise_every: int = 0
    """Every so many frames of a camera one is promised; 0: none."""
    broker: str = "mosquitto"
    """What is started: mosquitto, or rabbitmq, a cluster of three nodes."""
    kill_receivers: int = 0
    """So many times a receiver is killed, and started anew at once."""
    kill_nodes: int = 0
    """So many times a node of the broker is killed, and started anew at once."""
    namespaces: bool = False
    """Each node of RabbitMQ has a network of its own."""
    cut_nodes: int = 0
    """So many times a node of RabbitMQ is cut off for 20 s, from clients and from the other nodes."""
    add_receiver: bool = False
    """In the middle, one more receiver is started, and then the others anew, one after the other."""
    catalogue: str = ""
    """URL of an empty PostgreSQL database, where receivers bring their frames; none if empty."""
    stop_catalogue_s: float = 0.0
    """In the middle, receivers do not reach it for so long."""

    def __post_init__(self) -> None:
        if self.broker not in ("mosquitto", "rabbitmq"):
            raise UsageError(f"there is no broker {self.broker!r} to start: name mosquitto or rabbitmq")
        if self.namespaces and self.broker != "rabbitmq":
            raise UsageError("network namespaces are for nodes of RabbitMQ: name --rabbitmq")
        if self.cut_nodes and not self.namespaces:
            raise UsageError("a node is cut off from its own network: name --namespaces")
        if self.add_receiver and (self.kill_receivers or self.kill_nodes or self.cut_nodes):
            raise UsageError("a receiver is added in a run of its own: leave kills and cuts out")
        if self.seconds < self.interval_s:
            raise UsageError(f"in {self.seconds:g} s not every camera sends a frame each {self.interval_s:g} s")
        if self.catalogue and not self.promise_every:
            raise UsageError("of a catalogue, promised frames are counted: name --promise-every")
        if self.stop_catalogue_s and not (self.catalogue and self.stop_catalogue_s < self.seconds):
            raise UsageError("a catalogue can be stopped that is named by --catalogue, for less time than cameras film")
