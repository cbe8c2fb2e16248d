"""The same calls for code without asyncio.

In: a `Client`, which runs in a thread of its own. Out: its answers, when they are there; lists and feeds as iterators.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, Generic, Self, TypeVar

from .client import Client, Fields, OrderOutcome
from .documents import Alert, ChannelUpdate, Movement, Order, PolicyLevel, Reset, Resumed, Status, Stock, Synced
from .errors import StocktideError
from .feed import Feed, FeedTransport
from .http import Retry

_T = TypeVar("_T")
_Update = TypeVar("_Update", bound=ChannelUpdate | Order)


class SyncClient:
    """An API, or several with the same system behind them. Open it by `with`; any thread may call it."""

    def __init__(self, api: str | Sequence[str], key: str | None = None, retry: Retry | None = None) -> None:
        self._client = Client(api, key=key, retry=retry)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stocktide-client", daemon=True)
        # Nothing is given to a loop that does not run: it would be waited for for ever.
        self._is_open = False
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_open = True
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        with self._opening:
            self._is_open = False
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # Orders

    def place_order(self, order: Fields) -> OrderOutcome:
        """As `Client.place_order`; so are the others."""
        return self._run(self._client.place_order(order))

    def pay_order(self, order_id: str, id: str | None = None) -> OrderOutcome:
        return self._run(self._client.pay_order(order_id, id))

    def cancel_order(self, order_id: str, lines: Sequence[Fields] | None = None, id: str | None = None) -> OrderOutcome:
        return self._run(self._client.cancel_order(order_id, lines, id))

    def extend_order(self, order_id: str, hold_seconds: int | None = None, id: str | None = None) -> OrderOutcome:
        return self._run(self._client.extend_order(order_id, hold_seconds, id))

    def change_order(
        self, order_id: str, remove: Sequence[Fields] = (), add: Sequence[Fields] = (), id: str | None = None
    ) -> OrderOutcome:
        return self._run(self._client.change_order(order_id, remove, add, id))

    def order(self, order_id: str) -> Order | None:
        return self._run(self._client.order(order_id))

    def orders(self, channel: str | None = None, state: Sequence[str] = (), sku: str | None = None) -> Iterator[Order]:
        return self._iterate(self._client.orders(channel, state, sku))

    # Events and movements

    def send_event(self, event: Fields) -> None:
        self._run(self._client.send_event(event))

    def movement(self, warehouse: str, movement_id: str) -> Movement | None:
        return self._run(self._client.movement(warehouse, movement_id))

    # Stock and channels

    def stock(self, sku: str) -> Stock | None:
        return self._run(self._client.stock(sku))

    def stocks(self, prefix: str | None = None, below: int | None = None) -> Iterator[Stock]:
        return self._iterate(self._client.stocks(prefix, below))

    def channels(self) -> tuple[str, ...]:
        return self._run(self._client.channels())

    def channel_stock(self, channel: str) -> Iterator[ChannelUpdate]:
        return self._iterate(self._client.channel_stock(channel))

    # Policies

    def policy(self, channel: str, sku: str | None = None) -> PolicyLevel:
        return self._run(self._client.policy(channel, sku))

    def put_policy(self, channel: str, sku: str | None, policy: Fields, etag: str | None = None) -> PolicyLevel:
        return self._run(self._client.put_policy(channel, sku, policy, etag))

    def delete_policy(self, channel: str, sku: str | None = None, etag: str | None = None) -> None:
        self._run(self._client.delete_policy(channel, sku, etag))

    # Alerts and feeds

    def alerts(
        self, types: Sequence[str] = (), sku: str | None = None, channel: str | None = None, since: str | None = None
    ) -> Iterator[Alert]:
        return self._iterate(self._client.alerts(types, sku, channel, since))

    def feed(
        self,
        channel: str,
        skus: Iterable[str] = (),
        prefixes: Iterable[str] = (),
        last_event_id: str | None = None,
        transport: FeedTransport = "sse",
    ) -> SyncFeed[ChannelUpdate]:
        return SyncFeed(self._iterate, self._client.feed(channel, skus, prefixes, last_event_id, transport))

    def order_feed(self, channel: str, last_event_id: str | None = None) -> SyncFeed[Order]:
        return SyncFeed(self._iterate, self._client.order_feed(channel, last_event_id))

    # In the thread of the client

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        with self._opening:
            if not self._is_open:
                call.close()
                raise StocktideError("a client is opened by `with`, and closed at its end")
            running = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return running.result()
        except CancelledError as error:
            raise StocktideError("the client was closed during this call") from error
        except BaseException:
            # An interrupted caller does not wait for it any more.
            running.cancel()
            raise

    def _iterate(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        async def following() -> tuple[_T] | None:
            async for item in items:
                return (item,)
            return None

        try:
            while (item := self._run(following())) is not None:
                yield item[0]
        finally:
            # The end of the client has closed what it had open.
            if self._is_open:
                with contextlib.suppress(StocktideError):
                    self._run(_close(items))

    async def _end(self) -> None:
        """End what other threads wait for, as a feed that one of them follows."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.__aexit__()
        await self._loop.shutdown_asyncgens()


class SyncFeed(Generic[_Update]):
    """A feed, followed by `for`; `last_event_id` and `is_live` as of a `Feed`."""

    def __init__(self, iterate: Callable[[AsyncIterator[Any]], Iterator[Any]], feed: Feed[_Update]) -> None:
        self._iterate = iterate
        self._feed = feed

    def __iter__(self) -> Iterator[_Update | Synced | Resumed | Reset | Status]:
        return self._iterate(aiter(self._feed))

    @property
    def last_event_id(self) -> str | None:
        return self._feed.last_event_id

    @property
    def is_live(self) -> bool:
        return self._feed.is_live


async def _close(items: AsyncIterator[Any]) -> None:
    """Close a list or a feed that is left before its end, with its connection."""
    if isinstance(items, AsyncGenerator):
        await items.aclose()
