"""TLS of the API: a context whose certificate is read again when its files change.

In: the files of a certificate and of its key. Out: an `ssl.SSLContext`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

# A renewed certificate is used within this: to look at two files costs nothing.
RELOAD_SECONDS = 1.0


class Certificate:
    """A certificate (PEM, with its chain) and its key. Raises OSError, ssl.SSLError where they cannot be used."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._look()
        self._load(self.context)

    async def watch(self) -> None:
        """Read the files again when they change, until cancelled. New connections use the new certificate."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            # Not in a thread: a handshake between the certificate and its key would fail.
            self.reload()

    def reload(self) -> bool:
        """Read the files again if they have changed; whether they are used. What cannot be used is reported once."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            # Tried apart first: a certificate without its key would end every new connection.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            log.error("the certificate cannot be read, the earlier one stays: %s", error)
            return False
        log.info("the certificate was read again")
        return True

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(*self._files)

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp_of(file) for file in self._files]


def _stamp_of(file: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
