"""The table of topics: name, key, partitions, retention and the one kind of writer of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# Ids of movements outlive the records of every input topic, so that a redelivery is recognised.
INPUT_RETENTION_MS = 7 * DAY_MS
IDS_RETENTION_MS = 8 * DAY_MS
# A batch is bounded in lines, not in bytes: the largest order of 2,000 SKUs makes a record of a few MiB.
JOURNAL_RECORD_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's settings. `partitions` None: the installation's number, so that joined topics agree."""

    name: str
    key: str
    writer: str
    holds: str
    cleanup: Literal["delete", "compact", "compact,delete"]
    retention_ms: int | None = None
    partitions: int | None = None
    record_bytes_max: int | None = None
    # Kafka's retention by age is off, and `streams.journal.trim` deletes.
    trimmed_by_stocktide: bool = False

    def full_name(self, app_id: str) -> str:
        """The name on the broker: prefixed by the app id, as Faust's own topics are."""
        return f"{app_id}-{self.name}"


ORDERS = Topic("orders", "order_id", "channels, api", "order events", "delete", INPUT_RETENTION_MS)
MOVEMENTS = Topic("movements", "warehouse", "warehouses, api", "warehouse events", "delete", INPUT_RETENTION_MS)
JOURNAL = Topic(
    "journal",
    "shard",
    "agents.relay",
    "every batch that the ledger decided",
    "delete",
    7 * DAY_MS,
    partitions=1,
    record_bytes_max=JOURNAL_RECORD_BYTES_MAX,
    trimmed_by_stocktide=True,
)
RESERVATIONS = Topic("reservations", "order_id", "agents.derive.agent", "an order as it is now", "compact")
ADJUSTMENTS = Topic(
    "adjustments", "warehouse/id", "agents.derive.agent", "what a movement did", "compact,delete", IDS_RETENTION_MS
)
STOCK = Topic("stock", "sku", "agents.derive.agent", "a SKU's counters and channel modes", "compact")
POLICIES = Topic(
    "policies", "channel or channel/sku", "agents.derive.agent", "policies in force", "compact", partitions=1
)
CHANNEL_STOCK = Topic(
    "channel-stock", "channel/sku", "agents.channel_stock.agent", "what a channel may sell now", "compact"
)
JOURNAL_POSITIONS = Topic(
    "journal-positions",
    "shard",
    "agents.derive.agent",
    "how far the journal was derived: the changelog of a Faust table",
    "compact",
    partitions=1,
)
ALERTS = Topic("alerts", "sku", "agents", "low stock, shortfall and the like", "delete", 7 * DAY_MS)
DEAD_LETTERS = Topic(
    "dead-letters", "as it came", "agents, stocktide", "what was refused, with reason and origin", "delete", 30 * DAY_MS
)
# Kept as long as dead letters, so that a corrected mapping can be run again.
INTAKE = Topic("intake", "mapping", "api", "webhooks of platforms as they came", "delete", 30 * DAY_MS)
AUDIT = Topic("audit", "actor", "agents.derive.agent", "who changed what", "delete", 30 * DAY_MS, partitions=1)
# As long as the audit; a request waits for a week at most.
POLICY_REQUESTS = Topic(
    "policy-requests", "id/event", "api", "requests for policies, and their ends", "delete", 30 * DAY_MS, partitions=1
)
WEBHOOKS = Topic("webhooks", "name", "api", "webhooks with their secrets", "compact", partitions=1)
WEBHOOK_ACKS = Topic(
    "webhook-acks", "name/sku", "agents.webhooks.endpoint", "what an endpoint has taken of each SKU", "compact"
)
WEBHOOK_HEALTH = Topic(
    "webhook-health", "name/partition", "agents.webhooks.endpoint", "success, lag and failures", "compact", partitions=1
)
# A row is worth nothing after seconds.
PROCESSES = Topic(
    "processes", "process", "worker, api", "what each process says of itself", "compact,delete", HOUR_MS, partitions=1
)

# Longer than days have rows (`streams.contract.daily.DAYS_STORED`): of `daily`, tombstones remove them before.
DAILY_RETENTION_MS = 98 * DAY_MS
DAILY = Topic(
    "daily",
    "kind/day or kind/day/channel",
    "agents.derive.agent, agents.days.follower, in one process",
    "totals of a day: the changelog of a Faust table",
    "compact,delete",
    DAILY_RETENTION_MS,
    partitions=1,
)
COMPLAINTS = Topic(
    "complaints", "day/channel", "api", "complaints of a day", "compact,delete", DAILY_RETENTION_MS, partitions=1
)

TOPICS: tuple[Topic, ...] = (
    ORDERS,
    MOVEMENTS,
    JOURNAL,
    RESERVATIONS,
    ADJUSTMENTS,
    STOCK,
    POLICIES,
    CHANNEL_STOCK,
    JOURNAL_POSITIONS,
    ALERTS,
    DEAD_LETTERS,
    AUDIT,
    POLICY_REQUESTS,
    WEBHOOKS,
    WEBHOOK_ACKS,
    WEBHOOK_HEALTH,
    INTAKE,
    PROCESSES,
    DAILY,
    COMPLAINTS,
)


def retention_of(app_id: str, *topics: Topic) -> dict[str, int]:
    """How long Kafka keeps a row (ms), by full name; without those whose rows are kept until they are replaced."""
    return {topic.full_name(app_id): topic.retention_ms for topic in topics if topic.retention_ms is not None}


def join_key(first: str, second: str) -> str:
    """`first/second`, with `%` and `/` in `first` escaped as `%25` and `%2F`."""
    return f"{first.replace('%', '%25').replace('/', '%2F')}/{second}"


def split_key(key: str) -> tuple[str, str]:
    """The inverse of `join_key`."""
    first, _, second = key.partition("/")
    return first.replace("%2F", "/").replace("%25", "%"), second
