"""aarch64 instructions that each stage of a bundle takes, counted under qemu: what `profile --predict` multiplies.

    sudo python tests/emulation/count_instructions.py DIR            # prints runtime/profile/counted.py
    sudo python tests/emulation/count_instructions.py DIR --write    # and puts it there

It also prints what it takes to encode pictures to a budget, beside WebP (method 4) at the same size.

DIR is the one that debian_image.sh filled (its root.tar is the aarch64 system), or one with a folder `root` in it, such
as aarch64_root.sh makes. Needs root for a mount of its own, gcc, the qemu-user package, whose qemu-aarch64 loads
plugins, and the package ziglang, which compiles edgesem's kernel for aarch64. Takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
TARGET = CHECKOUT / "runtime/profile/counted.py"
STAGES = ("encode", "pack", "unpack", "step0")
QUALITY = 0.5
REPEATS = 2  # the first one also allocates
BUDGET_BYTES = 4000
PICTURES = 3  # that are encoded to the budget
PHOTOS = sorted((CHECKOUT / "runtime/photos").glob("*.jpg"))[7 : 7 + PICTURES]
FIRST_TO_BUDGET = 10  # of its marks: begin, edgesem, WebP

PROGRAM = """
import contextlib, io, json, os, sys, warnings
warnings.simplefilter("ignore")  # numpy takes qemu for a processor that rounds oddly
import numpy as np
from PIL import Image
import edgesem
def mark(number):
    with contextlib.suppress(OSError):
        os.sched_get_priority_max(1000 + number)
from edgesem.entropy import kernel
assert kernel.choose().runtime == "compiled"
def read(photo, size):
    return np.asarray(Image.open(photo).convert("RGB").resize(tuple(map(int, size.split("x")))))
bundle, precision, quality, repeats, budget_bytes, photos, sizes = map(json.loads, sys.argv[1:])
codec = edgesem.load(bundle or None, 1, precision=precision, runtime="cpu")
for size in sizes:
    frame = read(photos[0][0], size)
    for _ in range(repeats):
        mark(0)
        latent = codec.analyze(frame)
        mark(1)
        packet = codec.pack(latent, quality=quality)
        mark(2)
        latent = codec.unpack(packet)
        mark(3)
        codec.synthesize(latent, steps=0)
        mark(4)
for photo, webp_quality in photos:
    frame = read(photo, sizes[-1])
    for _ in range(repeats):
        mark(10)
        codec.pack(codec.analyze(frame), budget_bytes=budget_bytes).to_bytes()
        mark(11)
        Image.fromarray(frame).save(io.BytesIO(), "WEBP", quality=webp_quality, method=4)
        mark(12)
"""


def count(folder: Path, bundle: str, cpu: str, precision: str, sizes: list[str]) -> list[tuple[int, int]]:
    """The marks, each with the instructions up to it."""
    root = folder / "root"
    if not root.is_dir():
        root.mkdir()
        argv = ["tar", "-C", root, "-xf", folder / "root.tar", "--exclude=./dev/*", "./usr", "./lib", "./etc"]
        subprocess.run(argv, check=True)
    with tempfile.TemporaryDirectory(prefix="edgesem-count-") as scratch:
        work = Path(scratch)
        plugin = work / "count.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", plugin, HERE / "count.c"], check=True)
        unpack_wheels(folder / "wheels", work / "site")
        environment = {
            **os.environ,
            "PYTHONPATH": str(work / "site"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        photos = [(str(photo), webp_quality(photo, sizes[-1])) for photo in PHOTOS]
        python = next(iter(sorted((root / "usr/bin").glob("python3.*[0-9]"))))
        qemu = ["qemu-aarch64", "-cpu", cpu, "-L", root, "-plugin", plugin, python, "-c", PROGRAM]
        qemu += map(json.dumps, (bundle, precision, QUALITY, REPEATS, BUDGET_BYTES, photos, sizes))
        # ONNX Runtime dies at import where both /proc and /sys speak of another processor.
        argv = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys && exec "$@"', "sh", *map(str, qemu)]
        # Not in the checkout: what lies in the current folder would be imported first.
        run = subprocess.run(argv, env=environment, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr[-2000:])
    return [(int(n), int(total)) for n, total in re.findall(r"^MARK (\d+) (\d+)$", run.stderr, re.M)]


def webp_quality(photo: Path, size: str) -> int:
    """The highest quality at which WebP fits the budget, or the lowest, if none does."""
    import numpy as np
    from PIL import Image

    from export.bench.rd.baselines import baseline, finest

    frame = np.asarray(Image.open(photo).convert("RGB").resize(tuple(map(int, size.split("x")))))
    return (finest(partial(baseline("webp-m4").encode, frame), BUDGET_BYTES) or (0, b""))[0]


def differences(marks: list[tuple[int, int]]) -> list[dict[str, int]]:
    """Instructions of each stage, for each size, of the last repeat."""
    marks = [mark for mark in marks if mark[0] < FIRST_TO_BUDGET]
    per_frame = len(STAGES) + 1
    frames = [marks[i : i + per_frame] for i in range(0, len(marks), per_frame)]
    last = frames[REPEATS - 1 :: REPEATS]
    return [{name: frame[i + 1][1] - frame[i][1] for i, name in enumerate(STAGES)} for frame in last]


def to_budget(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Instructions of edgesem and of WebP to encode each picture to the budget, of the last repeat."""
    totals = [total for number, total in marks if number >= FIRST_TO_BUDGET]
    frames = list(zip(totals[::3], totals[1::3], totals[2::3], strict=True))
    return [(ours - begin, webp - ours) for begin, ours, webp in frames[REPEATS - 1 :: REPEATS]]


def unpack_wheels(cache: Path, site: Path) -> None:
    """All that a board gets: edgesem, made of the checkout with its compiled kernel, and all that it needs."""
    from devices.deployment.wheels import wheelhouse
    from devices.shell import Shell

    for path in wheelhouse(Shell(), cache, python="3.11", arch="aarch64", glibc="2.36"):
        if not path.name.startswith("pip-"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(site)


def module(counted: list[dict[str, int]], sizes: list[str], macs: dict[str, int], digest: str, cpu: str) -> str:
    """The text of runtime/profile/counted.py. `macs` are those of the last size."""
    pixels = [width * height for width, height in (map(int, size.split("x")) for size in sizes)]
    per_frame = {}
    for name in ("pack", "unpack"):
        each = (counted[-1][name] - counted[0][name]) / (pixels[-1] - pixels[0])
        per_frame[name] = (round(counted[0][name] - each * pixels[0], -6), round(each, 1))
    per_mac = {name: round(counted[-1][name] / macs[name], 3) for name in ("encode", "step0")}
    pairs = ", ".join(f'"{name}": ({fixed / 1e6:.0f}e6, {each})' for name, (fixed, each) in per_frame.items())
    text = TARGET.read_text("utf-8")
    for key, value in {
        "BUNDLE": f'"{digest}"',
        "CPU": f'"{cpu}"',
        "QUALITY": str(QUALITY),
        "PER_FRAME": f"{{{pairs}}}",
        "PER_MAC": "{" + ", ".join(f'"{name}": {ratio:.3f}' for name, ratio in per_mac.items()) + "}",
    }.items():
        text, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.M)
        assert found == 1, key
    return text


def multiplications(bundle: str, size: str) -> tuple[dict[str, int], str]:
    """Those of encoder and decoder for a frame, and the bundle's digest."""
    import numpy as np

    import edgesem
    from runtime.profile.operators import macs_by_kind

    codec = edgesem.load(Path(bundle) if bundle else None, 1, precision="fp32", runtime="cpu")
    width, height = map(int, size.split("x"))
    macs = macs_by_kind(codec, np.full((height, width, 3), 90, np.uint8), "fp32")
    sums = {"encode": sum(macs["encoder"].values()), "step0": sum(macs["decoder"].values())}
    return sums, codec.bundle.digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", default="", help="instead of the one that ships")
    parser.add_argument("--cpu", default="cortex-a72")
    parser.add_argument(
        "--precision", choices=["fp32", "int8"], default="fp32", help="int8: as on CPUs with dot products"
    )
    parser.add_argument("--sizes", nargs=2, default=["384x256", "768x512"])
    parser.add_argument("--write", action="store_true", help=f"put it into {TARGET.relative_to(CHECKOUT)}")
    options = parser.parse_args()
    if options.write and options.precision != "fp32":
        sys.exit("what --predict multiplies are counts in fp32: leave out --precision")
    marks = count(options.folder.resolve(), options.bundle, options.cpu, options.precision, options.sizes)
    counted = differences(marks)
    for size, stages in zip(options.sizes, counted, strict=True):
        print(size, {name: f"{number / 1e6:.1f} M" for name, number in stages.items()}, file=sys.stderr)
    for photo, (ours, webp) in zip(PHOTOS, to_budget(marks), strict=True):
        print(
            f"{photo.name} to {BUDGET_BYTES} bytes: {ours / 1e6:.1f} M, WebP {webp / 1e6:.1f} M, {ours / webp:.2f}",
            file=sys.stderr,
        )
    text = module(counted, options.sizes, *multiplications(options.bundle, options.sizes[-1]), options.cpu)
    if options.write:
        TARGET.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
