"""One reader of pictures and one of videos serves every command: nobody else opens such files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for package in ("edgesem", "export", "runtime", "devices") for path in (ROOT / package).rglob("*.py")
)
OPENERS = {"Image.open", "av.open"}
ALLOWED = {
    "edgesem/picture.py": "the reader of pictures",
    "edgesem/video.py": "the reader of videos",
    "edgesem/provenance.py": "reads what a picture says of itself, and none of its pixels",
    "runtime/capture/live_video.py": "opens cameras; frames come from edgesem.video",
    "runtime/receiver/sinks.py": "writes videos",
    "runtime/receiver/event_clip.py": "writes videos",
    # What these decode, they have coded themselves a moment before
    "runtime/sender/event_ring.py": "frames in memory",
    "runtime/profile/compare.py": "other codecs",
    "runtime/demo/compare.py": "other codecs",
    "export/bench/rd/baselines.py": "other codecs",
    "export/bench/rd/stills.py": "other codecs",
    "export/bench/video/peers.py": "other codecs",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pictures_and_videos_are_opened_by_their_readers_alone(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    opened = [f"{ast.unparse(call.func)} in line {call.lineno}" for call in calls if ast.unparse(call.func) in OPENERS]
    if str(path.relative_to(ROOT)) not in ALLOWED:
        assert opened == [], "read it with edgesem.files.read_picture or edgesem.video"
