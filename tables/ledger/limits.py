"""The limits of one ledger, which a client passes to its scripts.

In: settings of the installation. Out: numbers that Lua enforces.
"""

from __future__ import annotations

from msgspec import Struct

from stocktide.streams.topics import DAY_MS, HOUR_MS, IDS_RETENTION_MS, JOURNAL_RECORD_BYTES_MAX


class LedgerLimits(Struct, frozen=True):
    """Limits that the Lua step enforces; durations in ms."""

    # Some seconds of full load: a longer outbox would make the takeover long.
    outbox_max: int = 2_000
    # Age at which a parked event goes to the dead letters, and at which an alert names it.
    park_ms: int = DAY_MS
    waiting_alert_ms: int = 15 * 60 * 1000
    # How long a forced order waits for its approval.
    approval_ms: int = HOUR_MS
    # Parked events of one order: some hundred, or a shipment of some hundred lines. Each row of the order carries them.
    waiting_order_bytes_max: int = 64 * 1024
    # Parked events in all: only a faulty sender needs so much. A recovery counts these orders in one call of 10 ms.
    waiting_bytes_max: int = 64 * 1024 * 1024
    waiting_orders_max: int = 50_000
    # Extensions of a hold (rule 42), and event ids that are kept in full per order.
    extensions_max: int = 64
    event_ids_listed: int = 64
    # How long a final order is kept to answer repeats; a refused one less long, as a flash sale makes millions.
    order_retention_ms: int = 7 * DAY_MS
    refused_retention_ms: int = 24 * HOUR_MS
    movement_retention_ms: int = IDS_RETENTION_MS
    # Whole SKU rows in one batch: those of an order of 2,000 lines in a few warehouses. Beyond it the batch holds
    # patches, and a later one the whole rows: as JSON they are ten times as large.
    whole_rows_bytes_max: int = 1024 * 1024
    # The same for SKUs in many warehouses: one in 400. Its row of 50 KB of JSON may follow an order, but not each line
    # of a movement.
    wide_rows_bytes_max: int = 16 * 1024
    # A payload is one record of the journal; its envelope takes less than the difference.
    payload_bytes_max: int = JOURNAL_RECORD_BYTES_MAX - 1024 * 1024
    # A movement of more lines takes several calls if the records of its SKUs have more bytes: those of 256 SKUs in 400
    # warehouses, some 20 ms. The caller submits it again until its outcome is final.
    lines_per_step: int = 256
    step_bytes_max: int = 2560 * 1024
    # Orders that a batch fills (lua/includes/fill.lua): some 4 ms. A later step goes on. Larger steps cost less each,
    # and let other orders wait longer (docs/performance.md).
    fill_orders_max: int = 96
    # Announcements with units of one SKU to come: each is a counter in its record, which orders read.
    expected_per_sku_max: int = 50
    # How far an input may be dated ahead of the ledger's clock (rule 40).
    future_ms: int = 600_000
