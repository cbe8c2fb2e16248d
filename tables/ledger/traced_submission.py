"""A `Submitter` whose batches carry the context of their span as their token.

In: commands whose causes `Tracing` knows. Out: the same decisions, and a span for each call of the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from stocktide.streams.spans import Tracing, token_of
from stocktide.tables.ledger.client import AppliedBatch
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.submission import Submitter, SupportsApply
from stocktide.tables.settlement.listener import SettlementListener


class TracedSubmitter(Submitter):
    """Submits with spans."""

    def __init__(self, ledger: SupportsApply, settlements: SettlementListener, tracing: Tracing) -> None:
        super().__init__(ledger, settlements)
        self._tracing = tracing

    async def _apply(self, commands: Sequence[Command], token: str | None = None) -> AppliedBatch:
        attributes: dict[str, AttributeValue] = {"db.system.name": "redis", "stocktide.commands": len(commands)}
        causes = self._tracing.causes_of(commands)
        with self._tracing.span("decide batch", causes, SpanKind.CLIENT, attributes) as span:
            applied = await super()._apply(commands, token_of(span))
            if span is not None:
                span.set_attribute("stocktide.batch", applied.batch)
            return applied
