"""Settings of a catalogue, from a TOML file or from flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesem.config import setting
from edgesem.errors import UsageError
from runtime.catalogue.database import check_url

PERIOD_S = 10.0


@dataclass(frozen=True)
class CatalogueSettings:
    """Catalogue of several receivers in PostgreSQL, and where their packets go."""

    url: str = ""
    """postgresql://USER@HOST:PORT/NAME of the catalogue; none if empty."""
    password_file: Path | None = None
    """Password for it, in one line, closed to other users; $EDGESEM_CATALOGUE_PASSWORD, else ~/.pgpass without it."""
    objects: str = ""
    """Where packets go for all receivers: a shared folder, or s3://BUCKET/PREFIX (keys in $AWS_ACCESS_KEY_ID and
    $AWS_SECRET_ACCESS_KEY, address in $AWS_ENDPOINT_URL)."""
    period_s: float = setting(PERIOD_S, low=0.1, high=3600)
    """How often archived frames are brought there: each time they become one object."""

    def __post_init__(self) -> None:
        if self.url:
            check_url(self.url)
        if bool(self.url) != bool(self.objects):
            raise UsageError("catalogue and packets go together: name catalogue.url and catalogue.objects")
