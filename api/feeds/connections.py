"""The open feeds of one process, of all transports, and the one place from which they are ended.

In: requests whose feeds are open; a condition, a code and a reason. Out: ended feeds. A key that is revoked ends its
feeds so: `open_feeds.end(lambda request: …, CloseCode.KEY_NOT_VALID, "the key was revoked")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from aiohttp import web

from stocktide.api.feeds.close_codes import CloseCode, FeedEnded
from stocktide.api.feeds.subscriber import Subscription


class FeedConnection:
    """One open feed."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self._ended: FeedEnded | None = None
        self._subscription: Subscription | None = None

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end."""
        return self._ended is not None

    def end(self, reason: FeedEnded) -> None:
        """End the feed with this reason; the task that writes it raises the reason."""
        if self._ended is None:
            self._ended = reason
        if self._subscription is not None:
            self._subscription.end(reason)

    def attach(self, subscription: Subscription) -> None:
        """Pass a reason, if there is one by now, to what writes the feed."""
        self._subscription = subscription
        if self._ended is not None:
            subscription.end(self._ended)

    def check(self) -> None:
        """Raises the reason why the feed ends, if there is one."""
        if self._ended is not None:
            raise self._ended


# Where an open feed is stored in its request.
CONNECTION = web.RequestKey("feed", FeedConnection)


class OpenFeeds:
    """The open feeds."""

    def __init__(self) -> None:
        self._connections: set[FeedConnection] = set()

    def __len__(self) -> int:
        return len(self._connections)

    @contextmanager
    def opened(self, request: web.Request) -> Iterator[FeedConnection]:
        """A feed, while it is open."""
        connection = FeedConnection(request)
        request[CONNECTION] = connection
        self._connections.add(connection)
        try:
            yield connection
        finally:
            self._connections.discard(connection)

    def end(self, matches: Callable[[web.Request], bool], code: CloseCode, detail: str) -> int:
        """End the feeds whose requests match; their number."""
        found = [connection for connection in self._connections if matches(connection.request)]
        for connection in found:
            connection.end(FeedEnded(code, detail))
        return len(found)

    def end_some(self, number: int, code: CloseCode, detail: str) -> None:
        """End so many feeds, whichever, of those that were not told to end before."""
        open_ones = (connection for connection in self._connections if not connection.is_ending)
        for connection in list(islice(open_ones, number)):
            connection.end(FeedEnded(code, detail))
