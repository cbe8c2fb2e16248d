"""Makes the parts of the API with spans where traces are exported, else the plain ones.

In: `Tracing` or None. Out: the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.typedefs import Middleware

from stocktide.api.batching import BatchSubmitter, CommandBatcher

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing


def make_batcher(submitter: BatchSubmitter, tracing: Tracing | None) -> CommandBatcher:
    """What collects the commands of requests."""
    if tracing is None:
        return CommandBatcher(submitter)
    from stocktide.api.traced import TracedBatcher

    return TracedBatcher(submitter, tracing)


def request_middlewares(tracing: Tracing | None) -> list[Middleware]:
    """What is around every request."""
    if tracing is None:
        return []
    from stocktide.api.traced import trace_requests

    return [trace_requests(tracing)]
