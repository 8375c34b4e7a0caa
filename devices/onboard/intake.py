"""Intake of a release on the board: files received, installed in a folder of their own, and removed again."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
from collections.abc import Callable, Container
from typing import IO, Any

from devices.onboard.layout import DIGEST, MAX_BLOB_BYTES, Layout, Refused, Report, load, run_program, write_whole

KEEP = 3  # releases that stay on the board
SLACK_BYTES = 32 << 20


def facts(layout: Layout) -> dict[str, Any]:
    """Facts of the board that a deployer must know to build the right release."""
    model = ""
    with contextlib.suppress(OSError), open(os.path.join(layout.root, "proc/device-tree/model"), "rb") as file:
        model = file.read(256).rstrip(b"\0").decode("utf-8", "replace")
    arch = platform.machine()
    if arch == "aarch64" and sys.maxsize < 2**32:
        arch = "armv8l"  # a 32-bit system on a 64-bit kernel, such as Raspberry Pi OS: no 64-bit wheel fits its Python
    return {
        "arch": arch,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "libc": "".join(platform.libc_ver()),
        "model": model,
        "free_bytes": _free_bytes(layout),
        "running": layout.running(),
        "releases": layout.complete(),
    }


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def missing(layout: Layout, manifest: dict[str, Any]) -> list[str]:
    """Digests of the manifest's files that the board does not have. Refused if they would not fit on its disk.

    Old releases are deleted before that is said, as `install` does, and files that nothing needs if it is tight.
    """
    sizes = dict(manifest["files"].values())
    lacking = {d: s for d, s in sizes.items() if not os.path.exists(os.path.join(layout.blobs, d))}
    if manifest["version"] in layout.complete() and not lacking:
        return []
    # A wheel unpacks to about three times its size. What a full disk still does later, it does to a folder that does
    # not count.
    need = sum(lacking.values()) + SLACK_BYTES
    if manifest["version"] not in layout.complete():
        remove_old_releases(layout)
        wheels = "wheels/edgesem-" if _packages_to_link(layout, manifest) else "wheels/"
        need += 3 * sum(size for path, (_, size) in manifest["files"].items() if path.startswith(wheels))
        if need > _free_bytes(layout):
            remove_unused_blobs(layout, keep=set(sizes))
    free = _free_bytes(layout)
    if need > free:
        raise Refused(f"{need >> 20} MB are needed below {layout.base}, {free >> 20} MB are free: delete something")
    return sorted(lacking)


def _free_bytes(layout: Layout) -> int:
    return shutil.disk_usage(_existing(layout.base)).free


def receive(layout: Layout, stream: IO[bytes]) -> int:
    """Put the files of a tar stream, each named by its SHA-256, among the blobs. Returns how many."""
    os.makedirs(layout.blobs, exist_ok=True)
    count = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if not (member.isreg() and DIGEST.fullmatch(member.name) and member.size <= MAX_BLOB_BYTES):
                    raise Refused("a file in the transfer has no proper name: build the release again")
                content = tar.extractfile(member)
                assert content is not None  # a regular file has content
                keep_blob(layout, member.name, content)
                count += 1
    except (tarfile.TarError, EOFError) as error:
        raise Refused(f"the transfer was cut after {count} files ({error}): deploy again, it goes on there") from None
    return count


def keep_blob(layout: Layout, digest: str, stream: IO[bytes]) -> None:
    """Put what `stream` holds among the blobs, if it is what `digest` says."""
    final = os.path.join(layout.blobs, digest)
    part = final + ".part"
    seen = hashlib.sha256()
    try:
        with open(part, "wb") as file:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                seen.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if seen.hexdigest() != digest:
            raise Refused(f"file {digest[:12]}... arrived damaged: deploy again")
        os.replace(part, final)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def install(layout: Layout, manifest: dict[str, Any], report: Report) -> None:
    """Make releases/<version> out of the blobs; nothing counts until all of it is there and has been tried."""
    version = manifest["version"]
    folder = layout.release(version)
    if version in layout.complete():
        return
    remove_old_releases(layout)
    os.makedirs(folder)
    try:
        for path, (digest, _) in manifest["files"].items():
            source, target = os.path.join(layout.blobs, digest), os.path.join(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                _same(source, digest)
                os.link(source, target)
            except FileNotFoundError:
                raise Refused(f"{path} has not arrived: deploy again") from None
        report("venv")
        python, wheels = os.path.join(folder, "venv/bin/python"), os.path.join(folder, "wheels")
        system = ["--system-site-packages"] if manifest.get("system_packages") else []
        run_program([sys.executable, "-m", "venv", "--without-pip", *system, os.path.join(folder, "venv")])
        pip = glob.glob(os.path.join(glob.escape(wheels), "pip-*.whl"))
        if not pip:
            raise Refused("the release has no wheel of pip: build it again")
        report("one wheel" if _same_packages(layout, manifest, folder) else "wheels")
        # /tmp is often a small file system in memory; a full disk must show in the folder that does not count yet.
        scratch = os.path.join(folder, "tmp")
        os.makedirs(scratch)
        settings = {"TMPDIR": scratch, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1"}
        quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-index", "--find-links", wheels]
        what = "edgesem[video]" if glob.glob(os.path.join(glob.escape(wheels), "av-*.whl")) else "edgesem"
        run_program([python, os.path.join(pip[0], "pip"), "install", *quiet, what], {**os.environ, **settings})
        shutil.rmtree(scratch)
        shutil.rmtree(wheels)
        report("bundle")
        bundle = os.path.join(folder, "bundle")
        if not os.path.isdir(bundle):  # the one that ships in the wheel
            packages = _packages(folder)
            if not os.path.isdir(os.path.join(packages, "edgesem/default_bundle")):
                raise Refused("the release has no bundle, nor has its wheel: build it again")
            os.symlink(os.path.relpath(os.path.join(packages, "edgesem/default_bundle"), folder), bundle)
        # The new program itself must be able to read the bundle that came with it.
        run_program([os.path.join(folder, "venv/bin/edgesem"), "info", bundle])
        os.sync()
        write_whole(os.path.join(folder, "release.json"), json.dumps(manifest).encode())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _same_packages(layout: Layout, manifest: dict[str, Any], folder: str) -> bool:
    """Whether the packages could be taken over from an installed release.

    They are linked, not copied: hundreds of megabytes less on a small card. pip never writes into a file
    that is there, it puts a new one in its place.
    """
    source = _packages_to_link(layout, manifest)
    if source is None:
        return False
    target = _packages(folder)
    shutil.rmtree(target)
    shutil.copytree(source, target, copy_function=os.link, ignore=_ours(source))
    return True


def _packages_to_link(layout: Layout, manifest: dict[str, Any]) -> str | None:
    """The site-packages of an installed release that has the same Python and the same wheels but for our own."""

    def others(files: dict[str, Any]) -> set[tuple[str, str]]:
        wheels = {(path, digest) for path, (digest, _) in files.items() if path.startswith("wheels/")}
        return {(path, digest) for path, digest in wheels if not path.startswith("wheels/edgesem-")}

    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for version in reversed(layout.complete()):
        source = _packages(layout.release(version))
        before = load(os.path.join(layout.release(version), "release.json"))
        alike = before.get("system_packages") == manifest.get("system_packages")
        alike = alike and os.path.basename(os.path.dirname(source)) == python
        if alike and others(before.get("files", {})) == others(manifest["files"]):
            return source
    return None


def _packages(folder: str) -> str:
    """The site-packages of a release."""
    found = glob.glob(os.path.join(glob.escape(folder), "venv/lib/python3*/site-packages"))
    return found[0] if found else ""


def _ours(packages: str) -> Callable[[str, list[str]], list[str]]:
    """What of a site-packages came with the wheel of edgesem: that is never taken over."""
    ours = {"export", "runtime", "devices"}
    return lambda folder, names: [n for n in names if folder == packages and (n in ours or n.startswith("edgesem"))]


def _same(path: str, digest: str) -> None:
    seen = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            seen.update(chunk)
    if seen.hexdigest() != digest:
        os.unlink(path)
        raise Refused(f"file {digest[:12]}... has gone bad on this disk: deploy again")


def remove_old_releases(layout: Layout) -> None:
    """Delete releases that were never finished, and all but the newest KEEP and those that may be gone back to."""
    complete = layout.complete()
    held = {layout.running(), load(layout.state).get("previous"), load(layout.pending).get("back")}
    kept = set(complete) & (set(complete[-KEEP:]) | held)
    for folder in glob.glob(os.path.join(glob.escape(layout.releases), "*")):
        if os.path.basename(folder) not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def remove_unused_blobs(layout: Layout, keep: Container[str] = ()) -> None:
    """Delete old releases, and files that no installed release names but those to keep, given by their digests."""
    remove_old_releases(layout)
    named = set()
    for version in layout.complete():
        files = load(os.path.join(layout.release(version), "release.json")).get("files", {})
        named |= {digest for digest, _ in files.values()}
    for path in glob.glob(os.path.join(glob.escape(layout.blobs), "*")):
        if os.path.basename(path) not in named and os.path.basename(path) not in keep:
            os.unlink(path)
