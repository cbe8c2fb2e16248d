"""Makes the worker's agents with spans where traces are exported, else the plain ones.

In: `Tracing` or None, and the arguments of the agent. Out: the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.derive.agent import Derivation
from stocktide.agents.intake import Intake
from stocktide.agents.mapping.agent import MappingAgent
from stocktide.agents.relay import BatchTraces
from stocktide.agents.webhooks.endpoint import EndpointParts
from stocktide.agents.webhooks.session import Session, SessionParts

if TYPE_CHECKING:
    from stocktide.agents.traced import WebhookTraces
    from stocktide.streams.spans import Tracing


def make_intake(tracing: Tracing | None, *arguments: Any) -> Intake:
    """The agents of `orders` and `movements`."""
    if tracing is None:
        return Intake(*arguments)
    from stocktide.agents.traced import TracedIntake

    return TracedIntake(*arguments, tracing=tracing)


def make_mapping_agent(tracing: Tracing | None, *arguments: Any) -> MappingAgent:
    """The agent of `intake`."""
    if tracing is None:
        return MappingAgent(*arguments)
    from stocktide.agents.traced import TracedMappingAgent

    return TracedMappingAgent(*arguments, tracing=tracing)


def make_relay_traces(tracing: Tracing | None) -> BatchTraces | None:
    """What hears of the relay's batches."""
    if tracing is None:
        return None
    from stocktide.agents.traced import RelayTraces

    return RelayTraces(tracing)


def make_derivation(tracing: Tracing | None, *arguments: Any) -> Derivation:
    """The agent of `journal`."""
    if tracing is None:
        return Derivation(*arguments)
    from stocktide.agents.traced import TracedDerivation

    return TracedDerivation(*arguments, tracing=tracing)


def make_stock_agent(tracing: Tracing | None, *arguments: Any) -> StockAgent:
    """The agent of `stock`."""
    if tracing is None:
        return StockAgent(*arguments)
    from stocktide.agents.traced import TracedStockAgent

    return TracedStockAgent(*arguments, tracing=tracing)


def make_webhook_traces(tracing: Tracing | None) -> WebhookTraces | None:
    """What knows the causes of the rows that webhooks send."""
    if tracing is None:
        return None
    from stocktide.agents.traced import WebhookTraces

    return WebhookTraces(tracing)


def make_session_of(
    traces: WebhookTraces | None, partitions: list[int], parts: SessionParts, endpoint_parts: EndpointParts
) -> Session:
    """The sender of the webhooks of an epoch."""
    if traces is None:
        return Session(partitions, parts, endpoint_parts)
    from stocktide.agents.traced import TracedSession

    return TracedSession(partitions, parts, structs.replace(endpoint_parts, calling=traces.calling), traces=traces)
