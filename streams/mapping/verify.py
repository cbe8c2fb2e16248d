"""Checks the signature of a webhook, over the raw bytes and in constant time.

In: a mapping, its secrets, a webhook. Out: whether one of the secrets signed it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from stocktide.streams.mapping.envelope import Envelope
from stocktide.streams.mapping.mapping_file import Mapping, Verify, as_list, compile_path
from stocktide.streams.mapping.unwrap import Unreadable, read_json


class EnabledMapping(Struct, frozen=True):
    """A mapping with its secrets."""

    mapping: Mapping
    secrets: tuple[str, ...]


def is_signed(mapping: Mapping, secrets: Sequence[str], envelope: Envelope) -> bool:
    """Whether the signature is right. Every secret is tried, so the time does not tell which."""
    verify = mapping.verify
    document = _document_of(verify, envelope)
    given = _given(verify, envelope, document)
    expected = [_expected(verify, secret, envelope, document) for secret in secrets]
    # The bytes of the text: comparing texts fails for characters that are not ASCII.
    right = [
        each is not None and hmac.compare_digest(given.encode(errors="replace"), each.encode()) for each in expected
    ]
    return bool(given) and any(right)


def has_signature(mapping: Mapping, envelope: Envelope) -> bool:
    """Whether the webhook has one, right or wrong."""
    return bool(_given(mapping.verify, envelope, _document_of(mapping.verify, envelope)))


def _given(verify: Verify, envelope: Envelope, document: Any) -> str:
    return next((text for each in as_list(verify.signature) if (text := _text(each, envelope, document))), "")


def _expected(verify: Verify, secret: str, envelope: Envelope, document: Any) -> str | None:
    if verify.kind == "hmac-sha256":
        digest = hmac.digest(secret.encode(), envelope.body, "sha256")
        return base64.b64encode(digest).decode() if verify.encoding == "base64" else digest.hex()
    if verify.kind == "qimen":
        return _qimen(secret, envelope)
    signed = b""
    for part in verify.parts:
        if part == "secret":
            signed += secret.encode()
        elif part == "raw":
            signed += envelope.body
        elif text := _text(part, envelope, document):
            signed += text.encode()
        else:
            return None
    return hashlib.md5(signed, usedforsecurity=False).hexdigest()


def _qimen(secret: str, envelope: Envelope) -> str:
    """Of the sorted parameters that are not empty, and of the body, between the secret."""
    pairs = sorted((name, value) for name, value in envelope.query.items() if name != "sign" and value)
    signed = secret + "".join(name + value for name, value in pairs)
    md5 = hashlib.md5(signed.encode() + envelope.body + secret.encode(), usedforsecurity=False)
    return md5.hexdigest().upper()


def _document_of(verify: Verify, envelope: Envelope) -> Any:
    """The body, if the signature lies in it or over a part of it."""
    sources = (*as_list(verify.signature), *verify.parts)
    if all(source.startswith(("header:", "query:")) or source in ("raw", "secret") for source in sources):
        return None
    try:
        return read_json(envelope.body)
    except Unreadable:
        return None


def _text(source: str, envelope: Envelope, document: Any) -> str | None:
    if source.startswith("header:"):
        return envelope.headers.get(source.removeprefix("header:").lower())
    if source.startswith("query:"):
        return envelope.query.get(source.removeprefix("query:"))
    found = compile_path(source).search(document)
    return found if isinstance(found, str) else None
