"""Signature of a bundle's manifest by its maker, with Ed25519; the manifest holds the digest of every file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgesem.errors import BundleError, PacketError
from edgesem.packet.keys import Identity, check_signature

FIELD = "signature"


def signed(manifest: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
    """The manifest with a signature of everything else in it."""
    value = identity.sign(_message(manifest)).hex()
    return {**manifest, FIELD: {"key": identity.public_key.hex(), "ed25519": value}}


def signer(manifest: Mapping[str, Any], trusted: str | None = None) -> str | None:
    """The public key, in hex, that has signed a manifest; None if nobody has.

    Raises BundleError when the signature does not hold, or is not of the key `trusted`.
    """
    found = manifest.get(FIELD)
    if found is None:
        if trusted is not None:
            raise BundleError("the bundle is not signed, and a signature was asked for: get it from its maker again")
        return None
    try:
        key, value = bytes.fromhex(found["key"]), bytes.fromhex(found["ed25519"])
        check_signature(_message(manifest), value, key)
    except (PacketError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"the signature of the manifest does not hold ({error}): somebody has changed it") from error
    if trusted is not None and key.hex() != trusted.lower():
        raise BundleError(f"the bundle is signed by {key.hex()}, not by {trusted}: do not use it")
    return key.hex()


def _message(manifest: Mapping[str, Any]) -> bytes:
    rest = {name: value for name, value in manifest.items() if name != FIELD}
    return b"edgesem bundle 1\n" + json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
