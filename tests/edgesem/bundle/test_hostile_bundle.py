"""Bundles whose digests are right and whose content is not: each is a BundleError, in every command, and soon."""

import io
import json
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import edgesem
from edgesem.bundle.bundle import DEFAULT, Bundle
from edgesem.bundle.manifest import MANIFEST, digest_of
from edgesem.cli.main import main
from edgesem.codec.codec import Codec
from edgesem.errors import BundleError
from edgesem.packet.keys import Identity
from edgesem.packet.signature import signed
from edgesem.semantics.embedding import Labels, SemanticHead

FRAME = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def bundle(tmp_path):
    """A copy of the bundle that ships whose files are links, so that each can be replaced."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in DEFAULT.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def manifest_of(folder):
    return json.loads((folder / MANIFEST).read_text())


def put_manifest(folder, manifest):
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))


def put(folder, name, data):
    """Replace a file, and say so in the manifest."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(data)
    manifest = manifest_of(folder)
    manifest["files"][name] = digest_of(folder / name)
    put_manifest(folder, manifest)


def use(folder):
    """All that a bundle is used for: opened, described, a picture coded, decoded and drawn, its labels asked."""
    with Codec(Bundle.open(folder)) as codec:
        latent = codec.analyze(FRAME)
        packet = codec.pack(latent, quality=0.3)
        codec.synthesize(codec.unpack(packet), steps=1)
        SemanticHead(codec.bundle).embed(latent)
        Labels.of(codec.bundle).label_query("car")


def test_the_bundle_that_ships_can_be_used(bundle):
    use(bundle)


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "a/b",
        "/etc/hostname",
        "..",
        ".",
        "",
        ".hidden",
        "a\\b",
        "a\0b",
        "a b",
        "ä",
        "x" * 81,
        "manifest.json",
    ],
)
def test_only_plain_names_stand_in_a_manifest(bundle, name):
    (bundle.parent / "secret").write_bytes(b"secret")
    manifest = manifest_of(bundle)
    manifest["files"][name] = digest_of(bundle.parent / "secret")
    put_manifest(bundle, manifest)
    with pytest.raises(BundleError, match="no name of a file"):
        Bundle.open(bundle)


def test_a_manifest_with_very_many_files_is_refused_before_they_are_read(bundle):
    manifest = manifest_of(bundle)
    manifest["files"] |= {f"f{number}": "0" * 64 for number in range(300)}
    put_manifest(bundle, manifest)
    with pytest.raises(BundleError, match="256 files"):
        Bundle.open(bundle)


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "text",
    [
        nested(100_000),
        '{"a":' * 100_000,
        "{}",
        "[]",
        "null",
        '"x"',
        "",
        "{",
        "\xff",
        '{"files": []}',
        '{"files": {}}',
        '{"format": 3, "files": {"a": 1}}',
        '{"format": 3, "files": {"a": "0"}}',
        '{"format": true, "files": {"a": "' + "0" * 64 + '"}}',
        '{"format": 1' + "0" * 5000 + "}",
    ],
    ids=range(15),
)
def test_what_is_no_manifest_is_refused(bundle, text):
    put_manifest(bundle, text)
    with pytest.raises(BundleError):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "more",
    [
        {"deep": json.loads(nested(50))},
        {"name": 5},
        {"name": "a\x1b[2Jb"},
        {"version": "1"},
        {"target": None},
        {"number": float("nan")},
        {"text": "\ud800"},
        {"\ud800": 1},
        {"signature": {"key": "00" * 32, "ed25519": "00" * 64}},
        {"signature": {"key": "zz", "ed25519": ""}},
        {"signature": 1},
        {"signature": {}},
    ],
    ids=repr,
)
def test_odd_entries_and_wrong_signatures_are_refused_by_every_command(bundle, more, tmp_path, capsys):
    put_manifest(bundle, manifest_of(bundle) | more)
    Image.fromarray(FRAME).save(tmp_path / "in.png")
    for args in (["info", bundle], ["encode", tmp_path / "in.png", tmp_path / "o.es", "--bundle", bundle]):
        assert main([*map(str, args)]) == 1
        said = capsys.readouterr()
        assert (said.err.count("\n"), said.err.startswith("error: ")) == (1, True)


def test_a_signature_that_holds_is_fine_and_a_changed_manifest_is_not(bundle):
    put_manifest(bundle, signed(manifest_of(bundle), Identity(bytes(32))))
    assert Bundle.open(bundle).files
    put_manifest(bundle, manifest_of(bundle) | {"version": 9})
    with pytest.raises(BundleError, match="signature"):
        Bundle.open(bundle)


def bomb(size):
    """An .npz whose `gain` unpacks to `size` zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("gain.npy", "w") as member:
        header = str({"descr": "<f4", "fortran_order": False, "shape": (size // 4,)}).encode().ljust(118)
        member.write(b"\x93NUMPY\1\0" + struct.pack("<H", 118) + header)
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


def lying(shape, descr="<f8", body=b""):
    """An .npy that says it is larger than it is."""
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(246)
    return b"\x93NUMPY\1\0" + struct.pack("<H", 246) + header + body


def arrays_of(name):
    with np.load(DEFAULT / name) as stored:
        return dict(stored)


def npz(arrays, raw=None):
    """The bytes of an .npz with some arrays, and members given by their bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    if raw:
        with zipfile.ZipFile(buffer, "a") as archive:
            for name, data in raw.items():
                archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def without(name, array):
    return {key: value for key, value in arrays_of(name).items() if key != array}


TABLES = {
    "empty": lambda: b"",
    "no zip": lambda: b"PK\3\4" + bytes(100),
    "an empty zip": lambda: npz({}),
    "cut": lambda: (DEFAULT / "tables.npz").read_bytes()[:-100],
    "cut in the middle": lambda: (DEFAULT / "tables.npz").read_bytes()[:2000],
    "a member of no bytes": lambda: npz(without("tables.npz", "gain"), {"gain": b""}),
    "a member that is no array": lambda: npz(without("tables.npz", "gain"), {"gain": b"hello"}),
    "a shape of exabytes": lambda: npz(without("tables.npz", "gain"), {"gain": lying((1 << 60,))}),
    "a negative shape": lambda: npz(without("tables.npz", "gain"), {"gain": lying((-1,), body=bytes(8))}),
    "objects": lambda: npz(without("tables.npz", "gain"), {"gain": lying((1,), "|O", bytes(8))}),
    "a header that nests": lambda: npz(without("tables.npz", "gain"), {"gain": b"\x93NUMPY\1\0\xf6\0" + b"(" * 246}),
    "texts": lambda: npz(arrays_of("tables.npz") | {"gain": np.full((256, 96), "x")}),
    "complex": lambda: npz(arrays_of("tables.npz") | {"gain": arrays_of("tables.npz")["gain"] * 1j}),
    "another shape": lambda: npz(arrays_of("tables.npz") | {"gain": np.ones((96, 256), np.float32)}),
    "a number alone": lambda: npz(arrays_of("tables.npz") | {"gain": np.float32(1)}),
    "far too large": lambda: npz(arrays_of("tables.npz") | {"gain": np.full((256, 96), 1e300)}),
    "no numbers": lambda: npz(arrays_of("tables.npz") | {"rate_guess": np.full((9, 9), np.nan)}),
    "radii that are floats": lambda: npz(arrays_of("tables.npz") | {"radius": np.full(64, 3.5)}),
    "radii beyond": lambda: npz(arrays_of("tables.npz") | {"radius": np.full(64, 2**31 - 1, np.int64)}),
    "frequencies that are floats": lambda: npz(arrays_of("tables.npz") | {"frequency": np.ones(64)}),
    "frequencies of none": lambda: npz(arrays_of("tables.npz") | {"frequency": np.zeros(0, np.int32)}),
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_tables_that_make_no_sense_are_refused(bundle, make, tmp_path, capsys):
    put(bundle, "tables.npz", make())
    with pytest.raises(BundleError, match=r"tables"):
        use(bundle)
    Image.fromarray(FRAME).save(tmp_path / "in.png")
    assert main(["encode", str(tmp_path / "in.png"), str(tmp_path / "o.es"), "--bundle", str(bundle)]) == 1
    assert capsys.readouterr().err.count("\n") == 1  # exit code and one line, not 130 and silence


LABELS = {
    "a number for pictures": lambda: npz(arrays_of("labels.npz") | {"pictures": np.int8(3)}),
    "pictures of another width": lambda: npz(arrays_of("labels.npz") | {"pictures": np.ones((9, 5), np.int8)}),
    "names that are floats": lambda: npz(arrays_of("labels.npz") | {"names": np.ones(9)}),
    "names that are no text": lambda: npz(arrays_of("labels.npz") | {"names": np.full(9, 255, np.uint8)}),
    "infinite": lambda: npz(arrays_of("labels.npz") | {"mean": np.full(384, 1e300)}),
    "nothing": lambda: npz({}),
}


@pytest.mark.parametrize("make", LABELS.values(), ids=LABELS)
def test_labels_that_make_no_sense_are_refused(bundle, make):
    put(bundle, "labels.npz", make())
    with pytest.raises(BundleError, match="labels"):
        Labels.of(Bundle.open(bundle))


@pytest.mark.parametrize("name", ["tables.npz", "labels.npz"])
def test_what_unpacks_to_gigabytes_is_refused_before_that(bundle, name, monkeypatch):
    data = bomb(300 << 20)
    assert len(data) < 1 << 20
    put(bundle, name, npz(without(name, "gain")) if name == "labels.npz" else data)
    if name == "labels.npz":
        put(bundle, name, data.replace(b"gain.npy", b"mean.npy"))
    taken = []
    real = zlib.decompressobj

    class Counted:
        """A decompressor that notes how much it gave."""

        def __init__(self, *args):
            self._inner = real(*args)

        def decompress(self, *args):
            out = self._inner.decompress(*args)
            taken.append(len(out))
            return out

        def __getattr__(self, name):
            return getattr(self._inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Counted)
    with pytest.raises(BundleError):
        use(bundle)
    assert sum(taken) < 64 << 20


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", [MANIFEST, "tables.npz", "encoder.onnx"])
def test_a_pipe_or_folder_in_place_of_a_file_is_refused_and_not_waited_for(bundle, name, make):
    (bundle / name).unlink()
    make(bundle / name)
    with pytest.raises(BundleError, match="is no file"):
        Bundle.open(bundle)


GRAPHS = {
    "no graph": lambda: b"no graph",
    "nothing": lambda: b"",
    "cut": lambda: (DEFAULT / "decoder.onnx").read_bytes()[:50_000],
    "another": lambda: (DEFAULT / "context_00.onnx").read_bytes(),
    "another one": lambda: (DEFAULT / "head.onnx").read_bytes(),
    "the encoder": lambda: (DEFAULT / "encoder.onnx").read_bytes(),
    "the decoder": lambda: (DEFAULT / "decoder.onnx").read_bytes(),
}


@pytest.mark.parametrize("graph", ["encoder", "decoder", "context_00", "context_05", "flow", "head"])
@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_a_graph_in_place_of_another_is_refused(bundle, graph, make, monkeypatch):
    data = make()
    if data == (DEFAULT / f"{graph}.onnx").read_bytes():
        pytest.skip("it is the right one")
    put(bundle, f"{graph}.onnx", data)
    monkeypatch.setattr("edgesem.bundle.runner.dot_product", lambda: None)  # the encoder in fp32, whatever the CPU
    with pytest.raises(BundleError):
        use(bundle)


class Saying:
    """A runner that gives the right shapes and wrong numbers."""

    def __init__(self, inner, name, value):
        self.inner, self.name, self.value = inner, name, value

    def run(self, feed):
        found = self.inner.run(feed)
        return found | {self.name: np.full_like(found[self.name], self.value)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1])
@pytest.mark.parametrize(("part", "output"), [("encoder", "latent"), ("decoder", "picture"), ("context_03", "scale")])
def test_numbers_that_cannot_be_are_refused_or_clipped(part, output, value):
    with edgesem.load() as codec:
        codec.use(part, Saying(codec._graphs.runner(f"{part}.onnx"), output, np.float32(value)))
        try:
            picture = codec.synthesize(codec.unpack(codec.pack(codec.analyze(FRAME), quality=0.3)))
        except BundleError:
            assert not (part == "decoder" and np.isfinite(value))
            return
        assert part != "context_03"
        assert picture.shape == FRAME.shape


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([MANIFEST, "tables.npz", "labels.npz"]),
    cut=st.none() | st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=4),
)
def test_any_mutation_is_a_bundle_or_a_bundle_error(tmp_path_factory, name, cut, changes):
    folder = tmp_path_factory.mktemp("bundle")
    for path in DEFAULT.iterdir():
        (folder / path.name).symlink_to(path)
    data = bytearray((DEFAULT / name).read_bytes())
    for where, what in changes:
        place = int(where * len(data))
        data[place : place + len(what)] = what
    if cut is not None:
        del data[int(cut * len(data)) :]
    if name == MANIFEST:
        (folder / MANIFEST).unlink()
        (folder / MANIFEST).write_bytes(data)
    else:
        put(folder, name, bytes(data))
    try:
        opened = Bundle.open(folder)
        with np.errstate(all="raise"):
            opened.tables, opened.reference_tables, opened.gain, opened.shrinkage, opened.rate_guess  # noqa: B018
        Labels.of(opened).label_query("car")
    except BundleError:
        pass
