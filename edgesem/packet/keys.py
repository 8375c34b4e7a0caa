"""Keys: secrets read from files and the environment, never from a command line, and a device's signing key.

A file that holds a secret must be closed to other users: the reader refuses it otherwise and says how to close it.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import os
import secrets
from pathlib import Path

from edgesem.errors import InputError, PacketError, UsageError
from edgesem.packet.seal import KEY_BYTES

_MAX_SECRET_BYTES = 4096
SIGNATURE_BYTES = 64


def read_secret(path: Path | None, variable: str) -> str | None:
    """The one line in the file `path`, or what the environment variable says, or None if neither is there."""
    if path is None:
        return os.environ.get(variable) or None
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                raise UsageError(f"{path} holds a secret and other users may open it: chmod o= {path}")
            data = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = decode_text(data).strip()
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > _MAX_SECRET_BYTES or len(text.splitlines()) != 1:
        raise UsageError(f"{path} must hold one line of text, the secret")
    return text


def write_private(path: Path, text: str) -> None:
    """Make a file that only its owner can ever read, whole or not at all, also at a power cut.

    Raises FileExistsError if it is there already, and OSError if it cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)  # unlike a rename, it replaces nothing
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(f"{path} is there already") from None
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def decode_text(data: bytes) -> str:
    """Text of a file that a person may have written: UTF-8, with or without the mark that Windows puts before it, or
    UTF-16 with its mark, as PowerShell writes. UnicodeDecodeError for anything else.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def read_key(path: Path | None, variable: str = "EDGESEM_SEAL_KEY") -> bytes | None:
    """A stream's seal key, as `new_key` writes it; None if there is neither file nor variable."""
    text = read_secret(path, variable)
    if text is None:
        return None
    where = str(path or f"${variable}")
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageError(f"{where} holds no key: it must be {KEY_BYTES} bytes in base64, as `edgesem key` makes them")
    return key


def new_key(path: Path) -> None:
    """Put a new random key into a new file that only its owner can read, whole or not at all.

    InputError if the file is there already. An empty one is none: a power cut may have left it.
    """
    text = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and not path.stat().st_size:
            path.unlink()
        write_private(path, text)
    except FileExistsError:
        raise InputError(f"{path} exists: a key is never overwritten, name another file") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _is_missing(path: Path) -> bool:
    return not path.exists() or (path.is_file() and not path.stat().st_size)


class Identity:
    """Ed25519 key of a device (RFC 8032), which signs its birth messages, or of whoever makes bundles."""

    def __init__(self, seed: bytes) -> None:
        from nacl.signing import SigningKey

        self._key = SigningKey(seed)

    @classmethod
    def open(cls, path: Path) -> Identity:
        """The identity in a file, made when it is not there, or empty. InputError for a file that is damaged.

        Processes that begin at the same time get the same one.
        """
        if _is_missing(path):
            try:
                new_key(path)
            except InputError:
                if _is_missing(path):
                    raise
                # else another process has made it in the meantime
        try:
            seed = read_key(path)
        except UsageError as error:  # a file of ours, and no option that somebody has given
            raise InputError(f"{error}; restore it, or remove it for a new key") from error
        assert seed is not None
        return cls(seed)

    @property
    def public_key(self) -> bytes:
        """The public half, 32 bytes, for `check_signature`."""
        return bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message."""
        return bytes(self._key.sign(message).signature)


def check_signature(message: bytes, signature: bytes, public_key: bytes) -> None:
    """PacketError unless the owner of `public_key` has signed the message."""
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(public_key).verify(message, signature)
    except (CryptoError, ValueError) as error:
        raise PacketError(f"the signature does not match: {error}") from None
