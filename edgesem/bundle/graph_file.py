"""Reader of ONNX files: the nodes and constants of a graph, without the onnx package.

Only what edgesem.codec.network_form and edgesem.bundle.pixel_input look at is read, of protobuf's wire format
(https://protobuf.dev/programming-guides/encoding): bytes that are no such file raise BundleError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import BundleError

_TYPES: dict[int, Any] = {1: "<f4", 2: "u1", 3: "i1", 7: "<i8", 10: "<f2"}  # by ONNX's numbers; others are left out
_LISTS = {1: 4, 2: 5, 3: 5}  # where a constant of that type may stand as a list of numbers, in place of its bytes
_MOST_BYTES = 1 << 24
_MOST_DIMENSIONS = 8  # of a constant; the weights of a convolution have 4


@dataclass(frozen=True)
class Node:
    """An operator: names of its inputs and outputs, and those of its attributes that are whole numbers."""

    kind: str
    """Such as Conv; behind its domain and a colon unless that is ONNX's own."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class GraphFile:
    """A graph: its nodes by the name of each output, and its constants."""

    nodes: dict[str, Node] = field(default_factory=dict)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def read_graph(path: Path) -> GraphFile:
    """The graph in a file. Raises BundleError for what is none, cannot be read, or is larger than 16 MB."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BundleError(f"{path}: too large for a graph of the context model")
        whole = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    graph = GraphFile()
    try:
        for data in _all(whole, 7):
            for node in map(node_of, _all(data, 1)):
                graph.nodes.update(dict.fromkeys(node.outputs, node))
            for tensor in _all(data, 5):
                name, array = constant_of(tensor)
                if array is not None:
                    graph.constants[name] = array
    except (ValueError, IndexError, OverflowError) as error:  # the last: of a dimension of 2^63
        raise BundleError(f"{path} is no ONNX graph: {error}") from error
    return graph


def node_of(data: bytes) -> Node:
    """The node that a message describes. Raises ValueError, or IndexError, for what is none."""
    attributes = {}
    for attribute in _all(data, 5):
        numbers = tuple(_signed(value) for number, value in fields(attribute) if number in (3, 8))
        attributes[_text(attribute, 1)] = numbers
    inputs, outputs = (tuple(name.decode() for name in _all(data, number)) for number in (1, 2))
    domain, name = _text(data, 7), _text(data, 4)
    return Node(f"{domain}:{name}" if domain else name, inputs, outputs, attributes)


def constant_of(data: bytes) -> tuple[str, npt.NDArray[Any] | None]:
    """Name and value of a constant; None where it is of a type, or stored in a way, that this reader does not know."""
    shape = [_signed(value) for number, value in fields(data) if number == 1]
    if len(shape) > _MOST_DIMENSIONS:  # the product of very many takes hours
        raise ValueError(f"a constant has {len(shape)} dimensions, at most {_MOST_DIMENSIONS} can be")
    kinds = [value for number, value in fields(data) if number == 2]
    number = kinds[-1] if kinds and isinstance(kinds[-1], int) else 0
    kind, raw = _TYPES.get(number), _all(data, 9)
    listed = [] if raw else _all(data, _LISTS.get(number, 0))
    if kind is None or len(raw + listed) != 1 or min(shape, default=0) < 0:
        return _text(data, 8), None
    size_bytes = math.prod(shape) * np.dtype(kind).itemsize
    if listed and len(listed[0]) == size_bytes:  # small numbers, one byte each, or floats
        raw = listed
    elif listed:
        return _text(data, 8), None
    if size_bytes != len(raw[0]):
        raise ValueError("a constant has another size than its shape says")
    return _text(data, 8), np.frombuffer(raw[0], kind).reshape(shape)


def _all(data: bytes, wanted: int) -> list[bytes]:
    """Each field of that number which holds bytes."""
    return [value for number, value in fields(data) if number == wanted and isinstance(value, bytes)]


def _text(data: bytes, wanted: int) -> str:
    found = _all(data, wanted)
    return found[-1].decode() if found else ""


def _signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("numbers are packed, which ONNX's own files do not do")
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message. Raises ValueError, or IndexError, for what is none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, at = _varint(data, at)
        if length is None or length > len(data) - at:
            raise ValueError(f"a field of form {wire} ends beyond its message")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]  # IndexError at the end
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number does not end")
