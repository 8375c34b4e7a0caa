"""Figures of a stream for Home Assistant: the values of its entities."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.receiver.stream import Stream
    from runtime.web.gallery import LatestPicture


def figures(stream: Stream, picture: LatestPicture | None, *, viewing: bool, trouble: str) -> dict[str, Any]:
    """The values of a stream's entities; None for what is not known."""
    state = stream.state
    values: dict[str, Any] = {
        "online": not stream.absence,
        "trouble": trouble,
        "steps": stream.synthesis.steps,
        "realism": stream.synthesis.realism,
        "viewing": viewing,
    }
    if picture is not None:
        captured_s = time.time() - picture.age_s
        values |= {
            "captured": datetime.fromtimestamp(round(captured_s), timezone.utc).isoformat(),
            "age_s": round(picture.age_s),
            "delay_s": round(picture.info.delay_s, 2),
            "size_bytes": picture.info.size_bytes,
            "quality_percent": round(100 * picture.info.q / 255),
        }
    if state is not None:
        capacity_bps, data = state.capacity_bps, state.data
        values |= {
            "capacity_kbps": None if capacity_bps is None else round(capacity_bps / 1000, 1),
            "promised_waiting": state.promised_waiting,
            "paused": state.paused,
            "masked": state.masked,
            "live": state.live or None,
            "watch": state.watch,
            "max_bytes": state.max_bytes,
            "max_rate_bps": state.max_rate_bps,
        }
        if data is not None:
            values |= {
                "data_left_bytes": data.left_bytes,
                "data_spent_bytes": data.spent_bytes,
                "data_forecast_bytes": data.forecast_bytes,
            }
    return values
