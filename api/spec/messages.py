"""The messages that Stocktide exchanges other than by calls: those of topics, feeds, sockets and webhooks.

In: nothing. Out: the tables of their types, from which the AsyncAPI document is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from msgspec import Struct

from stocktide.api.feeds.socket_messages import Rejected, Subscribe, Subscribed, Unsubscribe
from stocktide.streams import topics
from stocktide.streams.contract import daily, documents
from stocktide.streams.contract.events import Movement, OrderEvent
from stocktide.streams.journal.record import JournalRecord
from stocktide.streams.mapping.envelope import Envelope
from stocktide.streams.topics import Topic
from stocktide.streams.webhooks.definition import PartitionHealth, Webhook

MSGPACK = "application/msgpack"


class StockUpdated(Struct, frozen=True, tag_field="type", tag="stock.updated"):
    """A call of a webhook: what a channel may sell now."""

    channel: str
    items: list[documents.ChannelUpdate]


class OrderUpdated(Struct, frozen=True, tag_field="type", tag="order.updated"):
    """A call of a webhook: orders as they are now."""

    channel: str
    items: list[documents.Order]


class WebhookTest(Struct, frozen=True, tag_field="type", tag="webhook.test"):
    """A call of a webhook that somebody asked for; it has no items."""

    channel: str
    items: tuple[()]


def _by_tag(*types: type[Struct]) -> dict[str, Any]:
    return {str(each.__struct_config__.tag): each for each in types}


# By topic: its messages by name. Any: only Stocktide's own processes read them, and their form may change.
OF_TOPICS: Mapping[Topic, Mapping[str, Any]] = {
    topics.ORDERS: _by_tag(*get_args(OrderEvent)),
    topics.MOVEMENTS: _by_tag(*get_args(Movement)),
    topics.JOURNAL: {"batch": JournalRecord},
    topics.RESERVATIONS: {"order": documents.PublishedOrder},
    topics.ADJUSTMENTS: {"movement": documents.PublishedMovement},
    topics.STOCK: {"stock": documents.PublishedStock},
    topics.POLICIES: {"policy": documents.PublishedPolicy},
    topics.CHANNEL_STOCK: {"update": documents.ChannelUpdate},
    topics.JOURNAL_POSITIONS: {"position": Any},
    topics.ALERTS: {"alert": documents.PublishedAlert},
    topics.DEAD_LETTERS: {"letter": documents.DeadLetter},
    topics.AUDIT: {"entry": documents.AuditEntry},
    topics.POLICY_REQUESTS: {"event": Any},
    topics.WEBHOOKS: {"definition": Webhook},
    topics.WEBHOOK_ACKS: {"acknowledged": Any},
    topics.WEBHOOK_HEALTH: {"health": PartitionHealth},
    topics.INTAKE: {"webhook": Envelope},
    topics.PROCESSES: {"status": documents.ProcessStatus},
    topics.DAILY: {
        "orders": daily.OrderDay,
        "inputs": daily.InputDay,
        "switches": daily.SwitchDay,
        "dead-letters": daily.LetterDay,
        "followed": daily.Followed,
    },
    topics.COMPLAINTS: {"complaints": daily.Complaints},
}
# What others write into topics; Stocktide writes all others.
RECEIVED_TOPICS = frozenset((topics.ORDERS, topics.MOVEMENTS))
PACKED_TOPICS = frozenset((topics.JOURNAL, topics.JOURNAL_POSITIONS, topics.INTAKE))

_FEED: Mapping[str, Any] = {
    "resumed": documents.FeedPosition,
    "reset": documents.FeedReset,
    "synced": documents.FeedPosition,
    "status": documents.Status,
}
# The `data` of the events of a feed by their names.
STOCK_FEED: Mapping[str, Any] = {"stock": documents.ChannelUpdate, **_FEED, "error": documents.FeedError}
ORDER_FEED: Mapping[str, Any] = {"order": documents.OrderUpdate, **_FEED, "error": documents.FeedError}
# A socket ends with a close code in place of `error`.
SOCKET: Mapping[str, Any] = {
    "stock": documents.ChannelUpdate,
    **_FEED,
    "subscribed": Subscribed,
    "rejected": Rejected,
}
FROM_SOCKETS: Mapping[str, Any] = _by_tag(Subscribe, Unsubscribe)
WEBHOOK_CALLS: Mapping[str, Any] = _by_tag(StockUpdated, OrderUpdated, WebhookTest)
