"""The commands encode, decode and info: pictures, packets and bundles as files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgesem.cli.console import emit, pairs
from edgesem.errors import BundleError, UsageError

if TYPE_CHECKING:
    from edgesem.bundle.bundle import Bundle
    from edgesem.codec.codec import Codec
    from edgesem.codec.drawing import DecoderSize
    from edgesem.codec.latent import Latent
    from edgesem.packet.packet import Packet

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
    region: Annotated[
        str | None, typer.Option(help="x,y,w,h in pixels: finer there, coarser elsewhere.", show_default="all alike")
    ] = None,
    drop: Annotated[
        int | None, typer.Option(min=1, max=255, help="How many of 255 levels coarser.", show_default="90")
    ] = None,
    meaning: Annotated[bool, typer.Option("--meaning", help="Add what the picture means, 64 bytes.")] = False,
    bundle: _Bundle = None,
    json_: _Json = False,
) -> None:
    """Code a picture into a packet of the size, or the quality, that you name.

    With --region the bytes go where you point: the same size shows the region finer and the rest coarser.

    Example: edgesem encode photo.jpg photo.es --bytes 2500
    """
    import edgesem
    from edgesem.codec.options import PackOptions
    from edgesem.codec.region import DROP, parse_box, region_of
    from edgesem.files import read_picture, write_whole
    from edgesem.packet.side_information import SideInformation

    if bytes_ is not None and quality is not None:
        raise UsageError("--bytes and --quality exclude each other: name one of them")
    if bytes_ is None and quality is None:
        quality = _DEFAULT_QUALITY
    _refuse_same(source, target)
    clock = _Clock()
    with clock("read"):
        frame = read_picture(source)
    if drop is not None and region is None:
        raise UsageError("--drop says how much coarser it is outside of a region: name one with --region")
    height, width = frame.shape[:2]
    finer = None if region is None else region_of(parse_box(region, width, height), width, height, drop or DROP)
    with clock("load"):
        codec = edgesem.load(bundle)
    with clock("analyze"):
        latent = codec.analyze(frame)
    with clock("pack"):
        side_info = SideInformation(embedding=_embedding(codec, latent) if meaning else b"", region=finer)
        options = PackOptions(layers=layers, side_info=side_info)
        packet = codec.pack(latent, budget_bytes=bytes_, quality=quality, options=options)
        data = packet.to_bytes()
    write_whole(target, data)
    result = {"file": target, **_describe(packet, data), "encode_s": clock.seconds}
    emit(result, json_, lambda r: pairs(r, f"{target}: {len(data)} bytes"))


def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A packet, *.es.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The picture to write: *.png, *.jpg, *.webp ...")],
    layers: Annotated[
        int | None, typer.Option(min=1, max=4, help="Use the first layers only.", show_default="all it has")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, max=4, help="Steps of the flow decoder; 0 needs none.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the flow decoder's noise.")] = 0,
    realism: Annotated[float, typer.Option(min=0, max=1, help="0 closest to the pixels sent, 1 most natural.")] = 1.0,
    decoder: Annotated[
        str,
        typer.Option(
            metavar="auto|small|large", help="Base decoder. auto: the large one if the bundle has one and no steps."
        ),
    ] = "auto",
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            help="Also write a map of where several samples differ. It is no map of errors: see `bench uncertainty`."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=2, max=64, help="With --uncertainty: how many.")] = 6,
    bundle: _Bundle = None,
    json_: _Json = False,
) -> None:
    """Redraw the picture of a packet.

    The picture says of itself that it was generated, and how (PNG text, EXIF): `edgesem info photo.png` shows it.

    Example: edgesem decode photo.es photo.png
    """
    import edgesem
    from edgesem.codec import uncertainty as maps
    from edgesem.files import picture_format_of, read_packet, write_picture, write_whole
    from edgesem.provenance import Provenance, encode_with_provenance

    picture_format = picture_format_of(target)
    _refuse_same(source, target)
    if uncertainty is not None:
        picture_format_of(uncertainty)
        _refuse_same(source, uncertainty)
    clock = _Clock()
    with clock("read"):
        packet = read_packet(source)
        packet = packet.prefix(len(packet.chunks) if layers is None else layers)
    with clock("load"):
        codec = edgesem.load(bundle)
    with clock("unpack"):
        latent = codec.unpack(packet)
    with clock("synthesize"):
        base = codec.decoder_for(steps, cast("DecoderSize", decoder))
        frame = codec.synthesize(latent, steps=steps, seed=seed, realism=realism, decoder=base)
    if uncertainty is not None:
        with clock("uncertainty"):
            found = maps.spread(codec, latent, steps=max(steps, 1), samples=samples, seed=seed)
            write_picture(maps.show(found), uncertainty)
    with clock("write"):
        provenance = Provenance.of(packet, codec.bundle, steps=steps, seed=seed, realism=realism, decoder=base)
        write_whole(target, encode_with_provenance(frame, picture_format, provenance))
    height, width = frame.shape[:2]
    result: dict[str, Any] = {
        "file": target,
        "width": width,
        "height": height,
        "layers": len(packet.chunks),
        "total_layers": packet.total_layers,
        "packet_bytes": packet.size_bytes,
        "steps": steps,
        "decoder": base,
        "decode_s": clock.seconds,
        "pixels_sha256": hashlib.sha256(frame.tobytes()).hexdigest(),
    }
    if uncertainty is not None:
        result["uncertainty"] = {"file": uncertainty, "samples": samples, "mean": round(float(found.mean()), 3)}
    emit(result, json_, lambda r: pairs(r, f"{target}: {width}x{height}"))


def info(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|BUNDLE|default", help="A packet, a picture that was decoded, a bundle's folder, or default."
        ),
    ],
    json_: _Json = False,
) -> None:
    """Show what a packet or a bundle is: header, layers, sizes, cost; or how a picture was made.

    Example: edgesem info photo.es
    """
    from edgesem.bundle.bundle import Bundle
    from edgesem.files import PICTURE_SUFFIXES, read_packet
    from edgesem.provenance import read_provenance

    path = Path(what)
    if what == "default":
        result = _describe_bundle(Bundle.open())
    elif path.is_dir():
        result = _describe_bundle(Bundle.open(path))
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        made = read_provenance(path)
        said = {"generated": None, "says": "nothing of how it was made"} if made is None else asdict(made)
        result = {"file": path, **said}
    else:
        packet = read_packet(path)
        result = {"file": path, **_describe(packet, packet.to_bytes()), "bundle": _bundle_of(packet)}
    emit(result, json_, lambda _: pairs(_brief(result), what))


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    """A description without what has a line for each file, trial or run of training: that is for machines."""
    long = [key for key in ("files", "int8", "parity", "training") if key in result]
    shown = {key: value for key, value in result.items() if key not in long}
    return {**shown, "more": f"{', '.join(long)}: with --json"} if long else shown


class _Clock:
    """Seconds that each named stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 6)


def _refuse_same(source: Path, target: Path) -> None:
    if source.exists() and target.exists() and source.samefile(target):
        raise UsageError(f"{target} is the input itself: name another file to write")


def _describe(packet: Packet, data: bytes) -> dict[str, Any]:
    """All that the header and the sizes of a packet say.

    captured: in UTC; unless `captured_exact`, the time nearest to now, since a header has milliseconds modulo 2^32.
    """
    from edgesem.packet.capture_time import capture_text

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
        "captured": capture_text(packet),
        "captured_exact": packet.side_info.time_high is not None,
        "sha256": hashlib.sha256(data).hexdigest(),
    } | ({"side_info": _describe_side_info(packet)} if packet.side_info.size_bytes else {})


def _describe_side_info(packet: Packet) -> dict[str, Any]:
    """The items of side information that a packet has.

    copied: the share of positions that are the reference's. moved: of its blocks, those that have moved, if any have.
    """
    side_info, copied = packet.side_info, packet.copied
    said: dict[str, Any] = {"size_bytes": side_info.size_bytes}
    if side_info.reference is not None:
        said["reference"] = {"frame": side_info.reference.frame, "layers": side_info.reference.layers}
        said["copied"] = 0.0 if copied is None else round(float(copied.mean()), 4)
        if (motion := packet.motion) is not None:
            said["moved"] = round(float(motion.any(2).mean()), 4)
    if side_info.background is not None:
        said["background"] = side_info.background.frame
    if side_info.embedding:
        said["embedding_bytes"] = len(side_info.embedding)
    if side_info.region is not None:
        said["region"] = asdict(side_info.region)
    if side_info.detail is not None:
        said["detail"] = {"roi": side_info.detail.roi, "request": side_info.detail.request}
    return said


def _embedding(codec: Codec, latent: Latent) -> bytes:
    from edgesem.semantics.embedding import SemanticHead, to_bytes

    return to_bytes(SemanticHead(codec.bundle).embed(latent))


def _bundle_of(packet: Packet) -> dict[str, Any] | None:
    """The bundle that made a packet, if it is the one that ships; of any other, only the id is known."""
    from edgesem.bundle.bundle import Bundle

    try:
        bundle = Bundle.open()
    except BundleError:
        return None
    if bundle.id != packet.bundle_id:
        return None
    return {"name": bundle.manifest.get("name"), "version": bundle.manifest.get("version"), "digest": bundle.digest}


def _describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Size, what would run each part here and why, cost of each part (null where there is none), and the manifest."""
    from edgesem.bundle.runner import choose
    from edgesem.entropy import kernel

    parts = {
        part: bundle.manifest.get(part) for part in ("encoder", "decoder", "decoder.large", "context", "flow", "head")
    }
    rest = {key: value for key, value in bundle.manifest.items() if key not in parts}
    here = {part: asdict(choose(bundle, part)) for part in parts if f"{part}.onnx" in bundle.files}
    here["entropy_coder"] = asdict(kernel.choose())
    sizes = {"size_bytes": bundle.size_bytes, "runs_here": here}
    backgrounds = len(bundle.backgrounds)
    return {"bundle_id": bundle.id, "digest": bundle.digest, **sizes, "backgrounds": backgrounds, **parts, **rest}
