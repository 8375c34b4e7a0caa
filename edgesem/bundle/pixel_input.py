"""Pixel input: an int8 encoder graph that takes the bytes of a picture, where it took floats.

An int8 encoder begins by making 3 planes of floats into the bytes that they were, and patches of 4 x 4 of these into
inputs of a convolution; with three channels the second takes ONNX Runtime longer than the convolution itself. Here that
is done before the graph, for a copy in memory of 48 bytes at a time. The integers are the same, so the results are.

    frame [3, 16h, 16w] -> QuantizeLinear -> Conv, 4 x 4, stride 4            1 x 1 from `patches` [4h, 4w, 48]
    frame -> QuantizeLinear -> Reshape, Transpose -> MatMulInteger of 16 x 16    from `patches` as [h, 4, w, 192]

A graph of any other form is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.bundle.graph_file import GraphFile, Node, constant_of, fields, node_of, read_graph
from edgesem.entropy import kernel
from edgesem.errors import BundleError

_FRAME, _PATCHES, _BLOCKS = "frame", "patches", "blocks"
_SIDE = 4  # pixels of a patch; as many patches make the side of a block
_BYTES, _INT, _INTS = 2, 2, 7  # ONNX's numbers for uint8, and for attributes of one whole number, and of several
_NODE, _CONSTANT, _INPUT, _GRAPH = 1, 5, 11, 7  # fields of a graph, and of a model

Message = list[tuple[int, Any]]


def feed_of(frame: npt.NDArray[np.uint8], *, pixels: bool) -> dict[str, npt.NDArray[Any]]:
    """What an encoder takes for a frame, uint8 [16h, 16w, 3]: its pixels, or planes of floats, 0..1."""
    if not pixels:
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32)
        planes /= np.float32(255)
        return {_FRAME: planes}
    height, width = frame.shape[0] // _SIDE, frame.shape[1] // _SIDE
    frame, loops = np.ascontiguousarray(frame), kernel.load()
    if loops is None:
        rows = frame.reshape(height, _SIDE, width, -1).view(f"V{3 * _SIDE}")
        patches = np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).view(np.uint8)
    else:
        patches = loops.patches(frame)
    return {
        _PATCHES: patches.reshape(1, height, width, -1),
        _BLOCKS: patches.reshape(height // _SIDE, _SIDE, width // _SIDE, -1),
    }


def with_pixel_input(path: Path) -> bytes | None:
    """The graph in a file, in the form that takes pixels: what `feed_of` gives. None if it has not the known form."""
    try:
        nodes, constants = _changes(read_graph(path))
        model: Message = []
        for number, value in fields(path.read_bytes()):
            if number == _GRAPH and isinstance(value, bytes):
                value = _graph(value, nodes, constants)
            model.append((number, value))
        return _message(model)
    except (BundleError, LookupError, ValueError):
        return None


def _changes(graph: GraphFile) -> tuple[dict[str, bytes | None], dict[str, npt.NDArray[Any]]]:
    """The nodes that are others, by their first outputs, with None for those that go; and the constants by name.

    Raises LookupError or ValueError for a graph of another form.
    """
    readers = list({id(node): node for node in graph.nodes.values() if _FRAME in node.inputs}.values())
    made = [node for node in readers if node.kind == "QuantizeLinear"]
    by_conv, by_blocks = made if _reads(graph, made[0])[0].kind == "DequantizeLinear" else reversed(made)
    conv = _reads(graph, _reads(graph, by_conv)[0])[0]
    weight = _dequantized(graph, conv.inputs[1])
    outputs, *shape = graph.constants[weight].shape
    wanted = {"kernel_shape": (4, 4), "strides": (4, 4), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": (1,)}
    _require(conv.kind == "Conv" and shape == [3, _SIDE, _SIDE])
    _require(all(conv.attributes[name] == value for name, value in wanted.items()))
    split, turn, join, product = _chain(graph, by_blocks, "Reshape", "Transpose", "Reshape", "MatMulInteger")
    concat, (down, across) = graph.nodes[split.inputs[1]], _sides(graph, readers)
    _require([graph.nodes.get(name) for name in concat.inputs[1:4:2]] == [down, across] and concat.kind == "Concat")
    sizes = [graph.constants[concat.inputs[index]].tolist() for index in (0, 2, 4)]
    _require(len(concat.inputs) == 5 and sizes == [[3], [16], [16]] and turn.attributes["perm"] == (1, 3, 0, 2, 4))
    matrix = graph.constants[product.inputs[1]]
    _require(matrix.shape[:1] == (768,) and graph.constants[join.inputs[1]].tolist() == [-1, 768])
    for node in made:
        _require(_takes_bytes(graph, node))
    nodes: dict[str, bytes | None] = {node.outputs[0]: None for node in (*readers, split, concat)}
    nodes[by_conv.outputs[0]] = _node("Transpose", [_PATCHES], by_conv.outputs, perm=[0, 3, 1, 2])
    nodes[conv.outputs[0]] = _node("Conv", conv.inputs, conv.outputs, kernel_shape=[1, 1])
    nodes[turn.outputs[0]] = _node("Transpose", [_BLOCKS], turn.outputs, perm=[0, 2, 1, 3])
    nodes[down.outputs[0]] = _node("Shape", [_BLOCKS], down.outputs, start=0, end=1)
    nodes[across.outputs[0]] = _node("Shape", [_BLOCKS], across.outputs, start=2, end=3)
    patch = graph.constants[weight].transpose(0, 2, 3, 1).reshape(outputs, -1, 1, 1)
    block = matrix.reshape(3, 4, 4, 4, 4, -1).transpose(1, 3, 2, 4, 0, 5).reshape(matrix.shape)
    return nodes, {weight: patch, product.inputs[1]: block}


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("a graph of another form")


def _reads(graph: GraphFile, node: Node) -> list[Node]:
    """The nodes that read what a node makes; there must be one."""
    found = [one for one in graph.nodes.values() if node.outputs[0] in one.inputs]
    _require(len(found) == 1 and len(node.outputs) == 1)
    return found


def _chain(graph: GraphFile, node: Node, *kinds: str) -> list[Node]:
    """The nodes behind a node, each the only reader of the one before, of these kinds."""
    found = []
    for kind in kinds:
        node = _reads(graph, node)[0]
        _require(node.kind == kind)
        found.append(node)
    return found


def _sides(graph: GraphFile, readers: list[Node]) -> tuple[Node, Node]:
    """The nodes that make rows and columns of blocks out of the frame's sides; `readers` read the frame."""
    found = {}
    for shape in readers:
        if shape.kind != "QuantizeLinear":
            (divided,) = _chain(graph, shape, "Div")
            _require(shape.kind == "Shape" and graph.constants[divided.inputs[1]].tolist() == [16])
            found[shape.attributes["start"], shape.attributes["end"]] = divided
    _require(len(found) == 2)
    return found[(2,), (3,)], found[(3,), (4,)]


def _dequantized(graph: GraphFile, name: str) -> str:
    """The constant of int8 that stands behind a weight, and nowhere else."""
    node = graph.nodes[name]
    _require(node.kind == "DequantizeLinear" and graph.constants[node.inputs[0]].dtype == np.int8)
    _require(node.attributes.get("axis", (1,)) == (0,) and _reads(graph, node)[0].inputs[1] == name)
    return node.inputs[0]


def _takes_bytes(graph: GraphFile, node: Node) -> bool:
    """Whether a node makes the bytes of a picture out of their 255ths, each the same."""
    scale, zero = (graph.constants[name] for name in node.inputs[1:])
    values = np.arange(256, dtype=np.float32)
    if zero.any() or zero.size != 1 or scale.size != 1:
        return False
    with np.errstate(all="ignore"):
        return bool((np.rint(values / np.float32(255) / scale.astype(np.float32)) == values).all())


def _graph(data: bytes, nodes: dict[str, bytes | None], constants: dict[str, npt.NDArray[Any]]) -> bytes:
    """A graph with other nodes, constants and inputs."""
    changed: Message = []
    for number, value in fields(data):
        if number == _NODE and isinstance(value, bytes) and (name := node_of(value).outputs[0]) in nodes:
            value = nodes[name] or b""
        elif number == _CONSTANT and isinstance(value, bytes) and (name := constant_of(value)[0]) in constants:
            array = constants[name]
            kind = next(kind for field, kind in fields(value) if field == 2)
            sides: Message = [(1, side) for side in array.shape]
            value = _message([*sides, (2, kind), (8, name.encode()), (9, array.tobytes())])
        elif number == _INPUT:
            value = b""
        if value != b"":
            changed.append((number, value))
    for name, shape in ((_PATCHES, (1, b"4h", b"4w", 48)), (_BLOCKS, (b"h", 4, b"w", 192))):
        sides = [(1, _message([(1 if isinstance(side, int) else 2, side)])) for side in shape]
        tensor = _message([(1, _BYTES), (2, _message(sides))])
        changed.append((_INPUT, _message([(1, name.encode()), (2, _message([(1, tensor)]))])))
    return _message(changed)


def _node(kind: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: int | list[int]) -> bytes:
    message: Message = [(1, name.encode()) for name in inputs] + [(2, name.encode()) for name in outputs]
    message.append((4, kind.encode()))
    for name, value in attributes.items():
        if isinstance(value, int):
            numbers: Message = [(3, value), (20, _INT)]
        else:
            numbers = [*((8, one) for one in value), (20, _INTS)]
        message.append((5, _message([(1, name.encode()), *numbers])))
    return _message(message)


def _message(message: Message) -> bytes:
    """Fields of whole numbers from 0, and of bytes, in protobuf's form."""
    data = bytearray()
    for number, value in message:
        if isinstance(value, int):
            data += _varint(number << 3) + _varint(value)
        else:
            data += _varint(number << 3 | 2) + _varint(len(value)) + value
    return bytes(data)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)
