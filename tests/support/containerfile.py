"""A Containerfile, read and built without a container runtime: its steps run in copies of a root folder, by chroot.

Enough for our own files: FROM, RUN, COPY, ENV, USER, WORKDIR, ENTRYPOINT and CMD; others say nothing about files. There
is no isolation but chroot: this needs root, and is for files that are trusted.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SILENT = ("VOLUME", "EXPOSE", "LABEL")


@dataclass
class Stage:
    """One FROM, with what follows it."""

    base: str
    name: str
    steps: list = field(default_factory=list)
    """Pairs of an instruction and the rest of its line."""


def read(path):
    """The stages of a Containerfile."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    stages = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or str(len(stages))))
        else:
            stages[-1].steps.append((word, rest))
    return stages


def is_ignored(path, ignore):
    """Whether .dockerignore keeps a file (a path in the context) from the build; the last rule that fits counts."""
    ignored = False
    for rule in ignore.read_text("utf-8").splitlines():
        pattern = rule.removeprefix("!").removeprefix("**/")
        if pattern and not rule.startswith("#") and _fits(path, pattern, anywhere="**/" in rule):
            ignored = not rule.startswith("!")
    return ignored


def _fits(path, pattern, anywhere):
    parts = path.split("/")
    if anywhere:
        return any(fnmatch.fnmatch(part, pattern) for part in parts)
    return any(fnmatch.fnmatch("/".join(parts[: end + 1]), pattern) for end in range(len(parts)))


class Image:
    """A root folder, with what its file says of a process in it."""

    def __init__(self, root):
        self.root, self.user, self.folder = root, "root", "/"
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self.entrypoint, self.command = [], []

    @property
    def ids(self):
        """User and group of its processes, as numbers."""
        words = ["chroot", self.root, "sh", "-c", f"id -u {self.user}; id -g {self.user}"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return [int(word) for word in told.split()]

    def argv(self, *words, env=None):
        """The command line that runs `words` in it, as its user and in its folder."""
        variables = [f"{name}={value}" for name, value in {**self.env, **(env or {})}.items()]
        inner = f"cd {shlex.quote(self.folder)} && exec {shlex.join(words)}"
        ids = ":".join(map(str, self.ids))
        return ["env", "-i", *variables, "chroot", f"--userspec={ids}", str(self.root), "sh", "-c", inner]

    def sealed_argv(self, *words, volumes):
        """The same on a read-only root, without capabilities, with an empty /tmp and these `volumes`: pairs of a path
        of this machine and one in the root; a third word, `ro`, makes it read-only. In a mount namespace of its own."""
        root = shlex.quote(str(self.root))
        lines = [f"mount --bind {root} {root}", f"mount --rbind /dev {root}/dev", f"mount -t proc proc {root}/proc"]
        for source, target, *mode in volumes:
            place = self.root / str(target).lstrip("/")
            if not place.exists() and Path(source).is_dir():
                place.mkdir(parents=True)
            elif not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            lines.append(f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(place))}")
            if mode:
                lines.append(f"mount -o remount,ro,bind {shlex.quote(str(place))}")
        lines += [f"mount -t tmpfs tmpfs {root}/tmp", f"mount -o remount,ro,bind {root}"]
        user, group = self.ids
        drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--bounding-set=-all"]
        env = [f"{name}={value}" for name, value in self.env.items()]
        inner = f"cd {shlex.quote(self.folder)} && exec {shlex.join(words)}"
        command = ["env", "-i", *env, *drop, "--no-new-privs", "sh", "-c", inner]
        lines.append(f"exec chroot {root} {shlex.join(command)}")
        return ["unshare", "--mount", "sh", "-c", " && ".join(lines)]


def build(path, context, base, folder, env):
    """Build in `folder`, with `base` as the root folder of each FROM that names no stage; returns the last Image.

    `env` is added to that of each RUN: how this machine reaches its package registries.
    """
    images = {}
    for stage in read(path):
        source = images[stage.base].root if stage.base in images else base
        root = folder / stage.name
        subprocess.run(["cp", "-a", str(source), str(root)], check=True)
        image = images[stage.name] = Image(root)
        for word, rest in stage.steps:
            _step(image, word, rest, images, context, env)
    return image


def _step(image, word, rest, images, context, env):
    if word == "RUN":
        subprocess.run(image.argv("sh", "-c", rest, env=env), check=True, stdin=subprocess.DEVNULL)
    elif word == "COPY":
        flags = [part for part in rest.split() if part.startswith("--")]
        *sources, target = [part for part in rest.split() if not part.startswith("--")]
        where = images[flags[0].removeprefix("--from=")].root if flags else context
        for source in sources:
            _copy(where / source.lstrip("/"), image.root / target.lstrip("/"), into=target.endswith("/"))
    elif word == "ENV":
        image.env |= dict(part.split("=", 1) for part in shlex.split(rest))
    elif word in ("ENTRYPOINT", "CMD"):
        setattr(image, {"ENTRYPOINT": "entrypoint", "CMD": "command"}[word], json.loads(rest))
    elif word == "USER":
        image.user = rest
    elif word == "WORKDIR":
        image.folder = rest
    else:
        assert word in SILENT, f"{word} is not known here"


def _copy(source, target, into):
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        for path in [source, *source.rglob("*")]:
            status = path.lstat()
            os.chown(target / path.relative_to(source), status.st_uid, status.st_gid, follow_symlinks=False)
    else:
        target = target / source.name if into else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def tracked(repository, folder):
    """Copy what git tracks (and what it would: new files that it does not ignore) to `folder`, as a build context."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source = Path(repository) / name
        if source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder
