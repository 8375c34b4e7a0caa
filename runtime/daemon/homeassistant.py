"""Home Assistant discovery: the message by which a stream shows up there as a camera."""

from __future__ import annotations

import json
import re
from hashlib import blake2b

from runtime.protocol.topics import Topics


def jpeg_topic(topics: Topics) -> str:
    """Topic of a stream's decoded pictures, as JPEG files."""
    return f"{topics.base}/jpeg"


def discovery(topics: Topics, prefix: str = "homeassistant") -> tuple[str, bytes]:
    """Topic and payload of the retained message by which Home Assistant learns of a stream's pictures.

    The pictures stay on the stream's own topic: what is below the prefix is read whole at each start of Home Assistant.
    """
    # Object ids may have letters, digits, - and _ only; the digest tells apart streams that look the same after that.
    digest = blake2b(topics.base.encode(), digest_size=4).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{topics.site}_{topics.device}_{topics.stream}")[:100]
    name = f"edgesem_{readable}_{digest}"
    config = {
        "name": topics.stream,
        "unique_id": name,
        "topic": jpeg_topic(topics),
        "device": {
            "identifiers": [f"edgesem_{topics.site}_{topics.device}"],
            "name": f"{topics.device} ({topics.site})",
            "manufacturer": "edgesem",
        },
        "origin": {"name": "edgesem"},
    }
    return f"{prefix}/camera/{name}/config", json.dumps(config).encode()
