"""Where a broker listens, who we are to it, and how we check that it is the one."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from edgesem.errors import InputError


@dataclass(frozen=True)
class Address:
    """Where a broker listens, and who we are to it."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    version: str | None = None
    """The MQTT version it speaks, `5` or `3.1.1`, if that is known; otherwise both are tried."""
    tls: bool = False
    ca_file: Path | None = None
    """Who must have signed the broker's certificate; whom the system trusts, if None."""
    cert_file: Path | None = None
    """Our own certificate, where the broker asks for one, and its key."""
    key_file: Path | None = None
    congestion: str = ""
    """TCP's congestion control for this connection, such as `cubic`; the system's if empty."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """How to check the broker and show ourselves; None without TLS. InputError if a file is no good."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(str(path) for path in (self.ca_file, self.cert_file, self.key_file) if path is not None)
            raise InputError(f"cannot use the TLS files {files}: {error}") from error
        return context
