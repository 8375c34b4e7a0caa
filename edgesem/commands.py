"""The commands encode, decode and info: pictures, packets and bundles as files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.console import emit
from edgesem.errors import BundleError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from edgesem.bundle import Bundle
    from edgesem.codec import Codec
    from edgesem.packet import Packet

_DEFAULT_QUALITY = 0.5

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
_Bundle = Annotated[Path | None, typer.Option(help="Folder of the bundle to use.", show_default="the one that ships")]


def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture that Pillow can read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The packet to write, *.es.")],
    bytes_: Annotated[int | None, typer.Option("--bytes", min=1, help="Largest size of OUT, in bytes.")] = None,
    quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Instead of --bytes: 0 smallest, 1 best.", show_default="0.5")
    ] = None,
    layers: Annotated[int, typer.Option(min=1, max=4, help="How many layers to keep.")] = 4,
    bundle: _Bundle = None,
    json_: _Json = False,
) -> None:
    """Code a picture into a packet of the size, or the quality, that you name.

    Example: edgesem encode photo.jpg photo.es --bytes 2500
    """
    from edgesem.files import read_picture, write_whole

    if bytes_ is not None and quality is not None:
        raise UsageError("--bytes and --quality exclude each other: name one of them")
    if bytes_ is None and quality is None:
        quality = _DEFAULT_QUALITY
    _refuse_same(source, target)
    clock = _Clock()
    with clock("read"):
        frame = read_picture(source)
    with clock("load"):
        codec = _load(bundle)
    with clock("analyze"):
        latent = codec.analyze(frame)
    with clock("pack"):
        packet = codec.pack(latent, budget_bytes=bytes_, quality=quality, layers=layers)
        data = packet.to_bytes()
    write_whole(target, data)
    result = {"file": target, **_describe(packet, data), "encode_s": clock.seconds}
    emit(result, json_, lambda r: _table(r, f"{target}: {len(data)} bytes"))


def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A packet, *.es.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The picture to write: *.png, *.jpg, *.webp ...")],
    layers: Annotated[
        int | None, typer.Option(min=1, max=4, help="Use the first layers only.", show_default="all it has")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, max=4, help="Steps of the flow decoder; 0 needs none.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the flow decoder's noise.")] = 0,
    realism: Annotated[float, typer.Option(min=0, max=1, help="0 closest to the pixels sent, 1 most natural.")] = 1.0,
    bundle: _Bundle = None,
    json_: _Json = False,
) -> None:
    """Redraw the picture of a packet.

    Example: edgesem decode photo.es photo.png
    """
    from edgesem.files import picture_format_of, read_packet, write_picture

    picture_format_of(target)
    _refuse_same(source, target)
    clock = _Clock()
    with clock("read"):
        packet = read_packet(source)
        packet = packet.prefix(len(packet.chunks) if layers is None else layers)
    with clock("load"):
        codec = _load(bundle)
    with clock("unpack"):
        latent = codec.unpack(packet)
    with clock("synthesize"):
        frame = codec.synthesize(latent, steps=steps, seed=seed, realism=realism)
    with clock("write"):
        write_picture(frame, target)
    height, width = frame.shape[:2]
    result = {
        "file": target,
        "width": width,
        "height": height,
        "layers": len(packet.chunks),
        "total_layers": packet.total_layers,
        "packet_bytes": packet.size_bytes,
        "steps": steps,
        "decode_s": clock.seconds,
        "pixels_sha256": hashlib.sha256(frame.tobytes()).hexdigest(),
    }
    emit(result, json_, lambda r: _table(r, f"{target}: {width}x{height}"))


def info(
    what: Annotated[
        str, typer.Argument(metavar="FILE|BUNDLE|default", help="A packet, a bundle's folder, or default.")
    ],
    json_: _Json = False,
) -> None:
    """Show what a packet or a bundle is: header, layers, sizes, cost.

    Example: edgesem info photo.es
    """
    from edgesem.bundle import Bundle
    from edgesem.files import read_packet

    path = Path(what)
    if what == "default":
        result = _describe_bundle(Bundle.open())
    elif path.is_dir():
        result = _describe_bundle(Bundle.open(path))
    else:
        packet = read_packet(path)
        result = {"file": path, **_describe(packet, packet.to_bytes()), "bundle": _bundle_of(packet)}
    emit(result, json_, lambda r: _table(r, what))


class _Clock:
    """Seconds that each named stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 6)


def _load(path: Path | None) -> Codec:
    import edgesem

    return edgesem.load(path)


def _refuse_same(source: Path, target: Path) -> None:
    if source.exists() and target.exists() and source.samefile(target):
        raise UsageError(f"{target} is the input itself: name another file to write")


def _describe(packet: Packet, data: bytes) -> dict[str, Any]:
    """All that the header and the sizes of a packet say."""
    return {
        "size_bytes": packet.size_bytes,
        "wire_bytes": packet.wire_bytes,
        "bpp": round(8 * packet.size_bytes / (packet.width * packet.height), 6),
        "width": packet.width,
        "height": packet.height,
        "q": packet.q,
        "layers": [len(chunk) for chunk in packet.chunks],
        "first_layer": packet.first_layer,
        "total_layers": packet.total_layers,
        "bundle_id": packet.bundle_id,
        "epoch": packet.epoch,
        "frame": packet.frame,
        "time_ms": packet.time_ms,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _bundle_of(packet: Packet) -> dict[str, Any] | None:
    """The bundle that made a packet, if it is the one that ships; of any other, only the id is known."""
    from edgesem.bundle import Bundle

    try:
        bundle = Bundle.open()
    except BundleError:
        return None
    if bundle.id != packet.bundle_id:
        return None
    return {"name": bundle.manifest.get("name"), "version": bundle.manifest.get("version"), "digest": bundle.digest}


def _describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Size, what would run each part here and why, cost of each part (null where there is none), and the manifest."""
    from edgesem.runner import choose

    parts = {part: bundle.manifest.get(part) for part in ("encoder", "decoder", "context", "flow")}
    rest = {key: value for key, value in bundle.manifest.items() if key not in parts}
    here = {part: asdict(choose(bundle, part)) for part in parts if f"{part}.onnx" in bundle.files}
    sizes = {"size_bytes": bundle.size_bytes, "runs_here": here}
    return {"bundle_id": bundle.id, "digest": bundle.digest, **sizes, **parts, **rest}


def _table(result: Mapping[str, Any], title: str) -> Table:
    """A result as two columns, nested names joined by dots."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a digest is of use only when whole
    for name, value in _flat(result):
        table.add_row(name, value)
    return table


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}.{index}")
    elif isinstance(value, list):
        yield name, " ".join(map(str, value))
    else:
        yield name, "none" if value is None else str(value)
