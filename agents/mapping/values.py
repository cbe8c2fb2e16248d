"""Finds values in a message by the sources of a mapping, and converts them.

In: a message, its webhook, sources. Out: texts, whole numbers, times and translated words, or a Rejection with the
path.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from stocktide.errors import StocktideError
from stocktide.streams.mapping.envelope import Envelope
from stocktide.streams.mapping.mapping_file import Sources, Translation, Words, as_list, compile_path

# 2001 to 5138 in ms; smaller numbers are seconds.
_MS_FROM = 1_000_000_000_000
# A word or a number in a sentence.
_QUOTED_LENGTH_MAX = 60


class Rejection(StocktideError):
    """A message that cannot be mapped: a stable `code`, a sentence, and the path in the message."""

    def __init__(self, code: str, detail: str, path: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.path = path


class Values:
    """The values of `item` (a message, or a line of it); `at` is its path in the message."""

    def __init__(self, item: Any, envelope: Envelope, zone: str | None, at: str = "") -> None:
        self._item = item
        self._envelope = envelope
        self._zone = zone
        self._at = at

    def find(self, sources: Sources) -> Any:
        """The first value that is there, or None; an empty text is as good as none."""
        for source in as_list(sources):
            if (found := self._find_one(source)) is not None and found != "":
                return found
        return None

    def text(self, sources: Sources) -> str:
        """A text; an int becomes its digits. Raises Rejection."""
        found = self.find(sources)
        if found is None:
            raise self._missing(sources)
        if isinstance(found, bool) or not isinstance(found, (str, int)):
            raise Rejection("invalid_field", "neither a text nor a whole number", self.path(sources))
        return str(found)

    def whole(self, sources: Sources) -> int:
        """A whole number, also one as text. Raises Rejection."""
        text = self.text(sources)
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20):
            raise Rejection("invalid_field", f"{_quote(text)} is no whole number", self.path(sources))
        return int(text)

    def time(self, sources: Sources) -> datetime:
        """A time: RFC 3339, a local one in the mapping's zone, or s or ms since the epoch. Raises Rejection."""
        text, path = self.text(sources), self.path(sources)
        try:
            if text.isascii() and text.isdigit():
                number = int(text[:20])
                return datetime.fromtimestamp(number / 1000 if number >= _MS_FROM else number, UTC)
            found = datetime.fromisoformat(text)
            if found.tzinfo is None:
                if self._zone is None:
                    raise Rejection("invalid_field", f"{_quote(text)} has no offset, and the mapping no zone", path)
                found = found.replace(tzinfo=ZoneInfo(self._zone))
            return found.astimezone(UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise Rejection("invalid_field", f"{_quote(text)} is no time", path) from error

    def word(self, words: Words) -> Translation:
        """The meaning of a word. Raises Rejection for one that is not listed."""
        found = self.find(words.path)
        if found is None:
            if words.default is None:
                raise self._missing(words.path)
            found = words.default
        word = str(found).lower() if isinstance(found, bool) else str(found)
        if word not in words.words:
            raise Rejection("unknown_word", f"the mapping does not know {_quote(word)}", self.path(words.path))
        return words.words[word]

    def path(self, sources: Sources) -> str:
        """The path of sources for a person: the first one, below that of the item."""
        first = as_list(sources)[0]
        return f"{self._at}.{first}" if self._at and ":" not in first else first

    def _missing(self, sources: Sources) -> Rejection:
        names = " or ".join(f"`{source}`" for source in as_list(sources))
        return Rejection("missing_field", f"{names} is required", self.path(sources))

    def _find_one(self, source: str) -> Any:
        if source.startswith("header:"):
            return self._envelope.headers.get(source.removeprefix("header:").lower())
        if source.startswith("query:"):
            return self._envelope.query.get(source.removeprefix("query:"))
        if source == "received":
            return self._envelope.received_ms
        return compile_path(source).search(self._item)


def _quote(text: str) -> str:
    return repr(text[:_QUOTED_LENGTH_MAX])
