"""Receivers of a load run, which divide the streams; one can be killed and replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runtime.bench.fleet.load import Load
from runtime.bench.fleet.process_use import ProcessUse, use_of
from runtime.bench.fleet.receiver_process import ReceiverProcess, Shown
from runtime.mqtt.address import Address


class Receivers:
    """Receivers of the streams of `site`. `more` are further arguments of each; what they write is in `folder`."""

    def __init__(self, load: Load, site: str, addresses: Sequence[Address], folder: Path, more: Sequence[str]) -> None:
        self._load, self._site, self._addresses = load, site, addresses
        self._folder, self._more = folder, more
        self._buried = {"receivers": ProcessUse(), "decoders": ProcessUse()}
        self._killed: list[ReceiverProcess] = []
        self._shards = load.receivers
        self._running = [self._start(index) for index in range(self._shards)]

    def wait_ready(self) -> None:
        """Wait until all are. LinkError if one does not become ready."""
        for one in self._running:
            one.wait_ready()

    def replace(self, index: int) -> float:
        """Kill one without a word, and start it anew; the moment of the kill, in monotonic seconds."""
        return self._exchange(index, ReceiverProcess.kill)

    def begin_one_more(self) -> None:
        """Start one more, which takes its share of the streams. LinkError if it does not become ready."""
        self._shards += 1
        self._running.append(self._start(self._shards - 1))
        self._running[-1].wait_ready()

    def restart(self, index: int) -> float:
        """Have one end and start anew, for the number of receivers that there is now; the moment of its end."""
        ended_s = self._exchange(index, ReceiverProcess.end)
        self._running[index].wait_ready()
        return ended_s

    @property
    def shown(self) -> list[Shown]:
        """All pictures so far, also of those that were killed."""
        return [one for receiver in (*self._killed, *self._running) for one in receiver.shown]

    @property
    def done(self) -> list[dict[str, Any]]:
        """The figures that they gave at their end."""
        return [one.done for one in self._running if one.done]

    def uses(self) -> dict[str, ProcessUse]:
        """What receivers and their decoders have used so far."""
        return {
            "receivers": use_of([one.pid for one in self._running]) + self._buried["receivers"],
            "decoders": use_of([pid for one in self._running for pid in one.decoders()]) + self._buried["decoders"],
        }

    def end(self) -> None:
        """End all."""
        for one in self._running:
            one.end()

    def _exchange(self, index: int, end: Callable[[ReceiverProcess], None]) -> float:
        old = self._running[index]
        old.wait_ready()  # one that just begins has nothing to lose
        for name, pids in (("receivers", [old.pid]), ("decoders", old.decoders())):
            self._buried[name] += ProcessUse(use_of(pids).cpu_s)
        ended_s = time.monotonic()
        end(old)
        self._killed.append(old)
        self._running[index] = self._start(index)
        return ended_s

    def _start(self, index: int) -> ReceiverProcess:
        first, load = self._addresses[0], self._load
        hosts = ",".join(f"mqtts://{one}" if one.tls else str(one) for one in self._addresses)
        arguments = [f"{self._site}/+/+", "--broker", hosts, "--shard", f"{index}/{self._shards}", "--workers", "1"]
        arguments += ["--out", str(self._folder / f"out{index}"), "--state-dir", str(self._folder / f"state{index}")]
        arguments += ["--view", "always"]  # or frames would be decoded and not drawn, as nobody looks at them
        arguments += ["--user", first.user] if first.user else []
        files = {"ca-file": first.ca_file, "cert-file": first.cert_file, "key-file": first.key_file}
        for name, path in files.items():
            arguments += [] if path is None else [f"--{name}", str(path)]
        config = self._folder / f"receive{index}.toml"
        config.write_text(f"[draw]\nmax_streams = {min(10_000, max(256, load.cameras))}\n")
        arguments += [*self._more, "--config", str(config)]
        return ReceiverProcess(f"receiver {index}", arguments, self._folder, first.password, time.monotonic)
