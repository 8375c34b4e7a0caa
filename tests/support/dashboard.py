"""What the Grafana dashboard in docs/ asks Prometheus for."""

import json
import re
from pathlib import Path

PATH = Path(__file__).parents[2] / "docs" / "grafana.json"


def queries():
    """All its queries."""
    panels = json.loads(PATH.read_text("utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def metrics(end):
    """The names of all metrics of `sender`, `receiver` or `state` that it draws."""
    return {name for query in queries() for name in re.findall(rf"\bedgesem_{end}_\w+", query)}
