"""What a policy would do to the stock as it is, over HTTP.

In: a policy as a `PUT` takes it, or null. Out: the offers that it would change, and sums before and after, of a bounded
number of SKUs; nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from msgspec import UNSET

from stocktide.api import problems
from stocktide.api.handlers.policies import read_level, read_policy_or_null
from stocktide.api.handlers.policy_body import Level, own_view
from stocktide.api.handlers.policy_changes import PolicyChanges
from stocktide.api.requests import EVERY_CHANNEL, check_name, parse_limit, parse_query
from stocktide.api.settled_reads import SettledReads
from stocktide.streams.contract.documents import (
    ModeCounts,
    ModesBothWays,
    OfferNumbers,
    PolicyPreview,
    PreviewedOffer,
    UnitsBothWays,
)
from stocktide.tables.ledger.codes import MODES
from stocktide.tables.ledger.policy_preview import OfferPreview, PreviewPage, PreviewRow

EXAMINED_DEFAULT = 1_000
# SKUs of one call: ten calls of the ledger, some 100 ms.
EXAMINED_MAX = 5_000


class PolicyPreviewHandler:
    """The handler of `POST /v1/policies/{channel}[/{sku}]/preview`."""

    def __init__(self, changes: PolicyChanges, reads: SettledReads) -> None:
        self._changes = changes
        self._reads = reads

    async def post(self, request: web.Request) -> web.Response:
        """`POST …/preview?cursor=…&limit=…`."""
        level, query = read_level(request), parse_query(request)
        if isinstance(level, web.Response):
            return level
        cursor = query.get("cursor", "")
        if cursor and (invalid := check_name("cursor", cursor)) is not None:
            return invalid
        limit = parse_limit(query.get("limit"), EXAMINED_DEFAULT, EXAMINED_MAX)
        if isinstance(limit, web.Response):
            return limit
        policy = await read_policy_or_null(request, level)
        if isinstance(policy, web.Response):
            return policy
        rows, page = await self._examine(level, policy, cursor, limit)
        if page.refusal:
            return problems.from_outcome(page.refusal)
        effective = self._changes.effective(page.effective)
        return problems.json_response(_answer(level, own_view(policy), effective, rows, page.last or None))

    async def _examine(
        self, level: Level, policy: dict[str, Any] | None, cursor: str, limit: int
    ) -> tuple[list[PreviewRow], PreviewPage]:
        """The rows of up to `limit` SKUs, and the last page of them."""
        rows: list[PreviewRow] = []
        deadline = self._reads.deadline()
        while True:
            page = await self._changes.preview(level, policy, cursor, limit - len(rows), deadline)
            rows += page.rows
            if not page.last or len(rows) >= limit:
                return rows, page
            cursor = page.last


def _answer(
    level: Level,
    own: dict[str, Any] | None,
    effective: dict[str, Any],
    rows: Sequence[PreviewRow],
    following: str | None,
) -> PolicyPreview:
    items = [_item(level, row) for row in rows if row.before != row.after]
    before, after = [row.before for row in rows], [row.after for row in rows]
    return PolicyPreview(
        channel=level.channel,
        sku=level.sku,
        own=own,
        effective=effective,
        examined=len({row.sku for row in rows}),
        complete=following is None,
        changed=len(items),
        modes=ModesBothWays(_modes(before), _modes(after)),
        quantity=UnitsBothWays(_units(before), _units(after)),
        items=items,
        next=following,
    )


def _item(level: Level, row: PreviewRow) -> PreviewedOffer:
    channel = row.channel if level.channel == EVERY_CHANNEL else UNSET
    return PreviewedOffer(row.sku, _numbers(row.before), _numbers(row.after), channel)


def _numbers(offer: OfferPreview) -> OfferNumbers:
    return OfferNumbers(offer.mode, offer.quantity, offer.preorder_remaining)


def _modes(offers: Sequence[OfferPreview]) -> ModeCounts:
    counts = Counter(offer.mode for offer in offers)
    return ModeCounts(**{mode: counts[mode] for mode in MODES})


def _units(offers: Sequence[OfferPreview]) -> int:
    return sum(offer.quantity for offer in offers)
