"""Reads acknowledgements, states, commands and births (protocol.md, section 9).

Each function gives the fields by the long names of section 15. Bytes are in hex.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tests.independent import cbor
from tests.independent.packet import printable
from tests.independent.refusal import RefusedError

MOST_ACK, MOST_STATE, MOST_COMMAND, MOST_BIRTH, MOST_BODY = 64, 512, 4096, 1024, 768
BIG = 1 << 53
EMBEDDING_BYTES = 64

Check = Callable[[Any], bool]


def integer(low: int, high: int) -> Check:
    """A CBOR integer in a range; no boolean, no float."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> Check:
    """An integer or a finite float in a range."""
    return lambda value: type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def optional(check: Check) -> Check:
    """Null, or what `check` takes."""
    return lambda value: value is None or check(value)


def boolean(value: Any) -> bool:
    return type(value) is bool


def text(most: int) -> Check:
    """A printable text of so many characters at most."""
    return lambda value: type(value) is str and len(value) <= most and printable(value)


def binary(least: int, most: int) -> Check:
    """A byte string with a size in a range."""
    return lambda value: type(value) is bytes and least <= len(value) <= most


COUNT = integer(0, BIG)

ACK = (
    ("epoch", integer(0, 0xFFFF)),
    ("frame", integer(0, 0xFFFFFFFF)),
    ("layer", integer(0, 3)),
    ("received_ms", integer(0, 0xFFFFFFFF)),
    ("decode_ms", integer(0, 0xFFFFFFFF)),
    ("kept", integer(0, 1)),
    ("receiver", integer(0, 0xFFFFFFFF)),
    ("held", integer(0, 4)),
)

STATE: dict[str, tuple[str, Check]] = {
    "u": ("up", boolean),
    "e": ("epoch", integer(0, 0xFFFF)),
    "t": ("time_ms", COUNT),
    "c": ("capacity_bps", optional(COUNT)),
    "r": ("rtt_s", optional(COUNT)),
    "w": ("window_bytes", COUNT),
    "b": ("budget_bytes", COUNT),
    "y": ("sent_bytes", COUNT),
    "f": ("frames", COUNT),
    "s": ("skipped", COUNT),
    "d": ("dropped_layers", COUNT),
    "a": ("age_s", optional(COUNT)),
    "p": ("promised_waiting", COUNT),
    "l": ("promised_refused", COUNT),
    "n": ("reconnects", COUNT),
    "q": ("paused", boolean),
}

PART = number(0, 1)
BOX: dict[str, Check] = {"x": PART, "y": PART, "w": number(1 / 64, 1), "h": number(1 / 64, 1)}
COMMANDS: dict[str, dict[str, Check]] = {
    "snapshot": {"b": integer(256, 65535)},
    "key": {},
    "pause": {"s": number(0, 86400)},
    "resume": {},
    "roi": BOX,
    "region": {**BOX, "d": integer(0, 255)},
    "watch": {"q": text(808), "v": binary(0, 8 * EMBEDDING_BYTES)},
    "apart": {},
    "bundle": {"h": binary(0, 64)},
    "view": {"n": integer(0, 0xFFFFFFFF), "s": integer(0, 600)},
    "detail": {**BOX, "b": integer(256, 65535)},
    "event": {},
    "budget": {},
}

BIRTH: dict[str, Check] = {"b": binary(0, MOST_BODY), "k": binary(32, 32), "s": binary(64, 64)}
BODY: dict[str, tuple[str, Check]] = {
    "v": ("", integer(1, 1)),
    "i": ("bundle_id", integer(0, 0xFFFF)),
    "d": ("bundle_digest", text(64)),
    "w": ("width", integer(0, 4096)),
    "h": ("height", integer(0, 4096)),
    "f": ("fps", number(0, 1000)),
    "e": ("epoch", integer(0, 0xFFFF)),
    "z": ("salt", binary(16, 16)),
    "t": ("time_ms", COUNT),
    "p": ("sealed", boolean),
    "n": ("program", text(32)),
}
START = ("start", COUNT)
USAGE = ("spent_bytes", "left_bytes", "forecast_bytes")


def usage(value: Any) -> bool:
    """Three counts, and perhaps more."""
    return type(value) is list and len(value) >= len(USAGE) and all(map(COUNT, value[: len(USAGE)]))


def size(value: Any) -> bool:
    """Width and height, and perhaps more."""
    return type(value) is list and len(value) >= 2 and all(map(integer(0, 4096), value[:2]))


OPTIONAL_STATE: dict[str, tuple[str, Check, Any]] = {
    "g": ("promised_rejected", COUNT, 0),
    "m": ("promised_lost", COUNT, 0),
    "x": ("refused", COUNT, 0),
    "h": ("masked", boolean, False),
    "i": ("grey", boolean, False),
    "j": ("left_out", COUNT, 0),
    "v": ("shrunk_percent", integer(1, 100), 100),
    "o": ("interval_s", integer(1, 86400), 10),
    "E": ("events", COUNT, 0),
}
LATER_STATE: dict[str, tuple[str, Check, Any]] = {
    "W": ("watch", text(160), None),
    "B": ("max_bytes", integer(256, 200_000), 30_000),
    "R": ("max_rate_bps", integer(0, 10**9), 0),
    "N": ("denoised", boolean, False),
}


def read_map(data: bytes, most: int, checks: dict[str, Check]) -> dict[str, Any]:
    """A map with these keys at least, each of which passes its check. What else is in it is not looked at."""
    if len(data) > most:
        raise RefusedError("long", f"{len(data)} bytes")
    found = cbor.loads(data)
    check_map(found, checks)
    return dict(found)


def check_map(found: Any, checks: dict[str, Check]) -> None:
    """Refuse what is no map, lacks a key, or has a value that fails."""
    if type(found) is not dict or not found.keys() >= checks.keys():
        raise RefusedError("keys")
    for key, check in checks.items():
        if not check(found[key]):
            raise RefusedError("value", key)


def read_ack(data: bytes) -> dict[str, int]:
    """An acknowledgement, without its tag."""
    if len(data) > MOST_ACK:
        raise RefusedError("long", f"{len(data)} bytes")
    found = cbor.loads(data)
    if type(found) is not list or len(found) < len(ACK):
        raise RefusedError("length")
    for value, (name, check) in zip(found, ACK, strict=False):
        if not check(value):
            raise RefusedError("value", name)
    return {name: value for value, (name, _) in zip(found, ACK, strict=False)}


def read_state(data: bytes) -> dict[str, Any]:
    """A state. Times that are named in seconds are given in seconds."""
    found = read_map(data, MOST_STATE, {key: check for key, (_, check) in STATE.items()})
    fields = {name: found[key] for key, (name, _) in STATE.items()}
    for key, (name, check, missing) in OPTIONAL_STATE.items():
        fields[name] = found.get(key, missing)
        if not check(fields[name]):
            raise RefusedError("value", key)
    if "k" in found and not usage(found["k"]):
        raise RefusedError("value", "k")
    if found.get("L", 1) not in (1, 2) or type(found.get("L", 1)) is not int:
        raise RefusedError("value", "L")
    fields["live"] = {1: "idle", 2: "watched"}[found["L"]] if "L" in found else ""
    if "D" in found and not size(found["D"]):
        raise RefusedError("value", "D")
    fields["detail"] = found["D"][:2] if "D" in found else None
    fields["data"] = dict(zip(USAGE, found["k"], strict=False)) if "k" in found else None
    fields["makes_events"] = "E" in found
    for key, (name, check, missing) in LATER_STATE.items():
        fields[name] = found.get(key, missing)
        if key in found and not check(found[key]):
            raise RefusedError("value", key)
    if found.get("S", 0) != 0:
        fields["silent_s"] = found["S"]
        if not integer(0, 86400)(found["S"]):
            raise RefusedError("value", "S")
    for name in ("rtt_s", "age_s"):
        if fields[name] is not None:
            fields[name] /= 1000
    return fields


def read_command(data: bytes) -> dict[str, Any]:
    """A command, without its tag."""
    if len(data) > MOST_COMMAND:
        raise RefusedError("long", f"{len(data)} bytes")
    found = cbor.loads(data)
    kind = found.get("c") if type(found) is dict else None
    if type(kind) is not str or kind not in COMMANDS:
        raise RefusedError("kind")
    check_map(found, {"c": text(8), "i": integer(0, (1 << 64) - 1), **COMMANDS[kind]})
    fields: dict[str, Any] = {"kind": kind, "id": found["i"]}
    if kind == "snapshot":
        fields["size_bytes"] = found["b"]
    elif kind == "pause":
        fields["pause_s"] = found["s"]
    elif kind in ("roi", "region", "detail"):
        fields["roi"] = [found[key] for key in "xywh"]
        if found["x"] > 1 - found["w"] + 0.000001 or found["y"] > 1 - found["h"] + 0.000001:
            raise RefusedError("value", "beyond the picture")
        if kind == "region":
            fields["drop"] = found["d"]
        elif kind == "detail":
            fields["size_bytes"] = found["b"]
    elif kind == "view":
        fields["viewer"], fields["lease_s"] = found["n"], found["s"]
    elif kind == "watch":
        fields["queries"], fields["vectors"] = read_watch(found["q"], found["v"])
    elif kind == "event":
        fields["label"] = found.get("l", "")
        if "l" in found and not text(100)(found["l"]):
            raise RefusedError("value", "l")
    elif kind == "budget":
        fields["max_bytes"], fields["max_rate_bps"] = found.get("b"), found.get("r")
        if "b" in found and not (integer(256, 200_000)(found["b"]) or integer(0, 0)(found["b"])):
            raise RefusedError("value", "b")
        if "r" in found and not integer(0, 10**9)(found["r"]):
            raise RefusedError("value", "r")
    elif kind == "bundle":
        ids = found["h"]
        if len(ids) % 2:
            raise RefusedError("value", "h")
        fields["bundles"] = [int.from_bytes(ids[place : place + 2], "little") for place in range(0, len(ids), 2)]
    return fields


def read_watch(joined: str, vectors: bytes) -> tuple[list[str], list[str]]:
    """The queries and their vectors; an empty text for a query that is the name of a label."""
    queries = joined.split(";") if joined else []
    if len(queries) > 8 or not all(1 <= len(query) <= 100 and printable(query) for query in queries):
        raise RefusedError("value", "queries")
    if vectors and len(vectors) != EMBEDDING_BYTES * len(queries):
        raise RefusedError("value", "vectors")
    each = [vectors[place : place + EMBEDDING_BYTES] for place in range(0, len(vectors), EMBEDDING_BYTES)]
    return queries, [vector.hex() if any(vector) else "" for vector in each]


def read_birth(data: bytes, base: str, key: bytes | None = None) -> dict[str, Any]:
    """A birth of the stream `base`. Refused unless its signature holds; with a stream key, its tag too."""
    outer = read_map(data, MOST_BIRTH, BIRTH)
    signed = b"edgesem birth\0" + base.encode() + b"\0" + outer["b"]
    try:
        VerifyKey(outer["k"]).verify(signed, outer["s"])
    except BadSignatureError as error:
        raise RefusedError("signature") from error
    body = read_map(outer["b"], MOST_BODY, {key: check for key, (_, check) in BODY.items()})
    fields = {name: body[key] for key, (name, _) in BODY.items() if name}
    name, check = START
    fields[name] = body.get("c", body["t"] // 1000)
    if not check(fields[name]):
        raise RefusedError("value", "c")
    if key is not None:
        about = fields["salt"] + base.encode()
        message_key = blake2b(about, key=key, digest_size=32, person=b"edgesem message").digest()
        topic = f"{base}/birth".encode()
        tagged = len(topic).to_bytes(2, "little") + topic + outer["b"]
        if cbor.loads(data).get("m") != blake2b(tagged, key=message_key, digest_size=16).digest():
            raise RefusedError("tag")
    fields["salt"] = fields["salt"].hex()
    return {**fields, "public_key": outer["k"].hex()}
