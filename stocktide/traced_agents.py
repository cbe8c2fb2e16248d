"""What the worker's agents are given to make spans where traces are exported.

In: `Tracing` or None. Out: what is called with records or around work; without `Tracing`, what does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from stocktide.agents.channel_stock.agent import UpdateTraces
from stocktide.agents.partition_workers import Around
from stocktide.agents.relay import BatchTraces
from stocktide.agents.webhooks.endpoint import untraced
from stocktide.agents.webhooks.queues import Batch

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing


class AgentTraces(Struct, frozen=True):
    """By agent; see their parameters."""

    submitting: Around = nullcontext
    mapping: Around = nullcontext
    deriving: Around = nullcontext
    batches: BatchTraces | None = None
    make_update_traces: Callable[[], UpdateTraces | None] = lambda: None
    note_webhook_rows: Callable[[Sequence[Any], bool], None] | None = None
    calling_webhook: Callable[[str, Batch], AbstractContextManager[object]] = untraced


def make_agent_traces(tracing: Tracing | None) -> AgentTraces:
    """What the agents of one role are given."""
    if tracing is None:
        return AgentTraces()
    from stocktide.agents import traced

    webhooks = traced.WebhookTraces(tracing)
    return AgentTraces(
        submitting=partial(traced.submitting, tracing),
        mapping=partial(traced.mapping, tracing),
        deriving=partial(traced.deriving, tracing),
        batches=traced.RelayTraces(tracing),
        make_update_traces=partial(traced.ChannelTraces, tracing),
        note_webhook_rows=webhooks.note,
        calling_webhook=webhooks.calling,
    )
