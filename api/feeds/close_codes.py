"""The codes with which the server ends a feed: close codes of WebSockets, and codes of `event: error` in SSE.

In: nothing. Out: the table, and the exceptions that end a feed. A client that resumes after any of them except
`bad_message` and `key_not_valid` gets what it missed.
"""

from __future__ import annotations

from enum import IntEnum

from stocktide.errors import StocktideError


class CloseCode(IntEnum):
    """A close code of the range that RFC 6455 leaves to applications. Its name in lower case is the `code` of SSE."""

    BAD_MESSAGE = 4400
    KEY_NOT_VALID = 4401
    TOO_SLOW = 4408
    STREAM_RECREATED = 4410
    TOO_MANY_MESSAGES = 4429
    INTERNAL_ERROR = 4500
    SHUTTING_DOWN = 4503


# What each code means, for the documents.
MEANINGS: dict[CloseCode, str] = {
    CloseCode.BAD_MESSAGE: "a message of the client is not one of the documented ones",
    CloseCode.KEY_NOT_VALID: "the key with which the feed was opened has expired or was revoked",
    CloseCode.TOO_SLOW: "the client read nothing, or answered no ping, for too long",
    CloseCode.STREAM_RECREATED: "the log of the feed was made anew; the next connection gets `reset`",
    CloseCode.TOO_MANY_MESSAGES: "the client sends messages faster than they are taken",
    CloseCode.INTERNAL_ERROR: "a fault of the server; its log has the details",
    CloseCode.SHUTTING_DOWN: "the process stops; another one, or this one in a moment, continues the feed",
}


class FeedEnded(StocktideError):
    """The server ends a feed; the text is the reason."""

    def __init__(self, code: CloseCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    @property
    def name(self) -> str:
        """The code in SSE and in logs."""
        return self.code.name.lower()


class TooSlow(FeedEnded):
    """The client reads too slowly; the text has the limit."""

    def __init__(self, detail: str) -> None:
        super().__init__(CloseCode.TOO_SLOW, detail)


class StreamRecreated(FeedEnded):
    """The log was made anew."""

    def __init__(self) -> None:
        super().__init__(CloseCode.STREAM_RECREATED, "the log of the feed was made anew")


class ShuttingDown(FeedEnded):
    """The process stops."""

    def __init__(self) -> None:
        super().__init__(CloseCode.SHUTTING_DOWN, "the process stops")
