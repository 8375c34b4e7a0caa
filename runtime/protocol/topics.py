"""Topics of a stream, and its folder on a disk."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from urllib.parse import unquote

from edgesem.errors import PacketError, UsageError

_MAX_PART = 64
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Topics:
    """The topics of one stream: `edgesem/v1/{site}/{device}/{stream}/...`."""

    site: str = "demo"
    device: str = "camera"
    stream: str = "main"

    def __post_init__(self) -> None:
        for part in (self.site, self.device, self.stream):
            if not 1 <= len(part) <= _MAX_PART or set(part) & set("/+#") or not part.isprintable():
                raise UsageError(
                    f"topic part {part[:_MAX_PART]!r} (site, device or stream): must have 1 to {_MAX_PART} printable "
                    "characters, none of / + #"
                )

    @classmethod
    def parse(cls, topic: str) -> tuple[Topics, str]:
        """The stream that a topic belongs to, and its rest, such as `pkt/0`. PacketError if it is none of ours."""
        parts = topic.split("/", 5)
        if len(parts) != 6 or parts[:2] != ["edgesem", "v1"]:
            raise PacketError(f"not a topic of edgesem: {topic[:100]!r}")
        try:
            return cls(*parts[2:5]), parts[5]
        except UsageError as error:
            raise PacketError(str(error)) from None

    @classmethod
    def named(cls, name: str) -> Topics:
        """The stream `SITE/DEVICE/STREAM`. UsageError if it is none."""
        parts = name.split("/")
        if len(parts) != 3:
            raise UsageError(f"{name!r} is no stream: write SITE/DEVICE/STREAM")
        return cls(*parts)

    @property
    def name(self) -> str:
        """The stream as `SITE/DEVICE/STREAM`."""
        return f"{self.site}/{self.device}/{self.stream}"

    @property
    def base(self) -> str:
        """Prefix of all topics of the stream."""
        return f"edgesem/v1/{self.name}"

    @property
    def ack(self) -> str:
        """Topic of acknowledgements, receivers to sender."""
        return f"{self.base}/ack"

    @property
    def birth(self) -> str:
        """Topic of the birth message, retained."""
        return f"{self.base}/birth"

    @property
    def state(self) -> str:
        """Topic of the state message, retained; the last will goes there too."""
        return f"{self.base}/state"

    @property
    def cmd(self) -> str:
        """Topic of commands to the sender."""
        return f"{self.base}/cmd"

    @property
    def every_layer(self) -> str:
        """Filter of the packets of all layers, and of pieces."""
        return f"{self.base}/pkt/+"

    @property
    def piece(self) -> str:
        """Topic of the pieces of promised packets."""
        return f"{self.base}/pkt/piece"

    def layer(self, layer: int) -> str:
        """Topic of the packets that begin with this layer."""
        return f"{self.base}/pkt/{layer}"


def stream_folder(folder: Path, topics: Topics) -> Path:
    """Folder of a stream's files in `folder`: no two streams have the same."""
    return folder.joinpath(*map(to_file_name, (topics.site, topics.device, topics.stream)))


def to_file_name(part: str) -> str:
    """A topic's part as a safe file name, whatever the stream is called: `..` becomes `%2E%2E`."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else _escaped(c) for c in part)
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 33]}~{blake2b(part.encode(), digest_size=16).hexdigest()}"


def from_file_name(name: str) -> str | None:
    """The topic's part from which `to_file_name` made a name; None if the name was shortened."""
    part = unquote(name)
    return part if to_file_name(part) == name else None


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
