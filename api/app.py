"""The aiohttp application, which answers every refusal and failure with a problem document.

In: routes with their handlers. Out: an application that owns no resources.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from redis.exceptions import RedisError

from stocktide.api import problems
from stocktide.api.access.guard import AccessGuard
from stocktide.api.batching import Overloaded
from stocktide.api.event_producer import ProduceFailed
from stocktide.api.handlers.events import CALL_BYTES_MAX
from stocktide.api.metrics import ApiMetrics
from stocktide.api.requests import check_target
from stocktide.api.routes.route import Route
from stocktide.tables.ledger.client import LedgerError, TooLarge
from stocktide.tables.ledger.submission import Unsettled

log = logging.getLogger(__name__)

# The metric label of unknown paths: clients choose paths, and each label costs memory.
_NO_ROUTE = "none"


def make_app(
    routes: Sequence[Route], metrics: ApiMetrics, access: AccessGuard, outside: Sequence[Middleware] = ()
) -> web.Application:
    """The application with these routes; `outside` are middlewares around its own."""
    app = web.Application(middlewares=[*outside, _guard(metrics, access)], client_max_size=CALL_BYTES_MAX)
    app.on_response_prepare.append(access.origins.add_headers)
    for route in routes:
        # A name may hold any printable character; aiohttp's default for `{name}` excludes braces. `{path}` has folders.
        path = re.sub(r"{(\w+)}", r"{\1:[^/]+}", route.path).replace("{path:[^/]+}", "{path:.+}")
        app.router.add_route(route.method, path, route.handler)
    return app


def _guard(metrics: ApiMetrics, access: AccessGuard) -> Middleware:
    """The middleware: refuse unreadable targets and what has no access, turn failures into problems, count requests."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        if (unreadable := check_target(request)) is not None:
            response: web.StreamResponse = unreadable
        else:
            response = await _handle(request, partial(access.handle, handler=handler))
        resource = request.match_info.route.resource
        route = _NO_ROUTE if resource is None else resource.canonical
        seconds = time.perf_counter() - started if isinstance(response, web.Response) else None
        metrics.answered(request.method, route, response.status, seconds)
        return response

    return guard


async def _handle(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return problems.from_http_exception(error)
    except (Unsettled, TimeoutError) as error:
        why = f": {error}" if str(error) else ""
        detail = f"It was not settled in time, and sending the same again is safe{why}."
        log.warning("%s %s: %s", request.method, request.rel_url.raw_path, str(error) or "not settled in time")
        return problems.service_unavailable("unsettled", detail)
    except TooLarge as error:
        return problems.problem_response(
            413, "too_large", f"It is more than the ledger can decide in one step: {error}."
        )
    except Overloaded:
        return problems.service_unavailable("overloaded", "More is asked than can be answered in time.")
    except ProduceFailed as error:
        return problems.service_unavailable("unavailable", f"{error}; sending the same again is safe.")
    except LedgerError as error:
        log.warning("%s %s: %s", request.method, request.rel_url.raw_path, error)
        return problems.service_unavailable("unavailable", f"The ledger cannot answer now: {error}.")
    except (RedisError, ConnectionError) as error:
        log.warning("%s %s: %s", request.method, request.rel_url.raw_path, error)
        return problems.service_unavailable("unavailable", "The ledger cannot answer now.")
    except Exception:
        log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        return problems.problem_response(500, "internal_error", "This is a fault of ours; the log has the details.")
