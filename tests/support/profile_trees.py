"""Boards as trees of sysfs files: `tests/sysfs/*.tree`, one line a file, unpacked where a test wants them."""

from pathlib import Path

TREES = Path(__file__).parents[1] / "sysfs"
LAYOUTS = sorted(path.stem for path in TREES.glob("*.tree"))


def unpack(name: str, root: Path) -> Path:
    """Write the files of a tree below `root`."""
    for line in (TREES / f"{name}.tree").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            path, _, content = line.partition(" = ")
            write(root / path, content.replace("\\n", "\n"))
    return root


def write(path: Path, content: object) -> None:
    """A file of sysfs: its value and a line end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n", "utf-8")
