"""How an API process leaves a deployment without a refused connection.

In: the settings' `drain_seconds`, the readiness and the open feeds. Out: a process that is not ready any more but
serves on, while load balancers take notice; then its feeds end, evenly over what is left of the time, so that not all
clients connect to the other processes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from http import HTTPStatus

from aiohttp import hdrs, web

from stocktide.api.feeds.close_codes import CloseCode
from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.handlers.health import Readiness
from stocktide.main_loop import stop_on_signals

logger = logging.getLogger(__name__)

# Of the time: load balancers see in this share that the process is not ready, and send no more clients.
NOTICED_SHARE = 0.5
# Feeds are ended in steps.
STEP_SECONDS = 0.05


class Drain:
    """The drain of one process. A second signal ends it at once."""

    def __init__(self, seconds: float, readiness: Readiness, open_feeds: OpenFeeds) -> None:
        self._seconds = seconds
        self._readiness = readiness
        self._open_feeds = open_feeds
        self._has_begun = False

    async def run(self) -> None:
        """Drain; returns when the process may stop listening."""
        self._has_begun = True
        self._readiness.stop("the process stops")
        if not self._seconds:
            return
        logger.info("not ready any more; serving on for %g s while clients go elsewhere", self._seconds)
        hurry = stop_on_signals()
        noticed = self._seconds * NOTICED_SHARE
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), noticed)
        await self._end_feeds(self._seconds - noticed, hurry)

    async def _end_feeds(self, seconds: float, hurry: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began, steps = loop.time(), max(1, round(seconds / STEP_SECONDS))
        for step in range(steps):
            # Clients that come meanwhile, because nobody told them, are among those of the next step.
            left = len(self._open_feeds)
            self._open_feeds.end_some(math.ceil(left / (steps - step)), CloseCode.SHUTTING_DOWN, "the process stops")
            until = began + (step + 1) * STEP_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), max(0, until - loop.time()))
                return

    async def close_connection(self, request: web.Request, response: web.StreamResponse) -> None:
        """A signal of the application: a client of a process that stops sends its next request elsewhere."""
        if self._has_begun and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"
