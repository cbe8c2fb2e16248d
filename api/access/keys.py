"""The form of keys: `stk_<env>_<id>_<secret><crc32>`.

In: an environment's name, or the text of a key. Out: a new key with its digest; the id of a key. Only the digest is
stored: 160 random bits need no salt and no slow hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import zlib
from typing import NamedTuple

PREFIX = "stk_"
SECRET_BYTES = 20
ID_CHARACTERS = 10
_ENV = re.compile(r"[a-z0-9]{1,16}")
_KEY = re.compile(r"stk_[a-z0-9]{1,16}_([a-z2-7]{10})_[a-z2-7]{32}([0-9a-f]{8})")


class NewKey(NamedTuple):
    """A new key. `text` is shown once, `digest` (SHA-256, hexadecimal) is stored."""

    id: str
    text: str
    digest: str


def make_key(env: str) -> NewKey:
    """A random key. Raises ValueError where `env` is not 1 to 16 small letters and digits."""
    if _ENV.fullmatch(env) is None:
        raise ValueError(f"{env!r}: 1 to 16 small letters and digits")
    secret = _base32(secrets.token_bytes(SECRET_BYTES))
    key_id = _base32(secrets.token_bytes(SECRET_BYTES))[:ID_CHARACTERS]
    body = f"{PREFIX}{env}_{key_id}_{secret}"
    text = body + _checksum(body)
    return NewKey(key_id, text, digest_of(text).hex())


def id_of(text: str) -> str | None:
    """The id in a well-formed key, else None."""
    found = _KEY.fullmatch(text)
    return found[1] if found is not None and _checksum(text[:-8]) == found[2] else None


def digest_of(text: str) -> bytes:
    """The SHA-256 of a key."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()
