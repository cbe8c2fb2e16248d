"""Makes the parts that worker and API have with spans where traces are exported, else the plain ones.

In: `Tracing` or None. Out: the parts. The modules that make spans are imported only where they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stocktide.streams.kafka.publish import MakeHeaders
from stocktide.tables.ledger.submission import Submitter, SupportsApply
from stocktide.tables.settlement.listener import SettlementListener

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing


def record_headers(tracing: Tracing | None) -> MakeHeaders | None:
    """What gives the headers of records."""
    if tracing is None:
        return None
    from stocktide.streams.spans import current_headers

    return current_headers


def make_submitter(ledger: SupportsApply, settlements: SettlementListener, tracing: Tracing | None) -> Submitter:
    """What submits commands."""
    if tracing is None:
        return Submitter(ledger, settlements)
    from stocktide.tables.ledger.traced_submission import TracedSubmitter

    return TracedSubmitter(ledger, settlements, tracing)
