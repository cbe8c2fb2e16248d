"""The worker's process: starts the parts, works until a signal, stops them in order.

In: the settings. Out: an exit status.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import AsyncExitStack

from aiokafka.errors import KafkaError

from stocktide.errors import CommandError, StartError
from stocktide.main_loop import configure_logging, run_main, run_unless_stopped, stop_on_signals
from stocktide.progress import report_while_waiting
from stocktide.settings import Settings
from stocktide.streams.shutdown import force_exit
from stocktide.streams.tracing import make_tracing
from stocktide.tables.ledger.connection import connect
from stocktide.wait_for_servers import START_SECONDS_MAX, wait_for_servers
from stocktide.worker_parts import Worker
from stocktide.worker_role import WorkerFailed

logger = logging.getLogger(__name__)

# Faust's consumer has its own thread. The relay, on which every answer depends, shares the main thread's loop and runs
# within half a millisecond, not within the interpreter's default of five.
SWITCH_SECONDS = 0.0005
# These log each start and stop of a Faust service.
_QUIET = (
    "faust",
    "mode",
    "stocktide.streams.app",
    "stocktide.streams.kafka.transport",
    "stocktide.tables.changelog_table",
)


def run(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT. 0 after an orderly stop; 1, with a sentence in the log, otherwise."""
    # aiokafka logs each failed attempt as an error.
    configure_logging(settings.log_level.upper(), quiet=_QUIET, silent=["aiokafka"])
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        run_main(work(settings))
    except (CommandError, WorkerFailed) as error:
        logger.error("%s", error)
        status = 1
    except KeyboardInterrupt:
        status = 130
    else:
        status = 0
    force_exit(status)
    return status


async def work(settings: Settings) -> None:
    """Start everything, work until a signal, stop everything. Raises CommandError, WorkerFailed."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        if (tracing := make_tracing("worker")) is not None:
            stack.push_async_callback(tracing.stop)
        access = settings.redis_access()
        redis, relay_redis = connect(settings.redis, **access), connect(settings.redis, **access)
        for client in (redis, relay_redis):
            stack.push_async_callback(client.aclose)
        try:
            worker = Worker(settings, redis, relay_redis, tracing)
        except OSError as error:  # its folder cannot be made
            raise StartError(f"STOCKTIDE_DATA is {settings.data}: {error.strerror} ({error.filename})") from error
        if await run_unless_stopped(stop, _start(worker, settings, stack)):
            try:
                await run_unless_stopped(stop, worker.watch())
            finally:
                logger.info("stopping")


async def _start(worker: Worker, settings: Settings, stack: AsyncExitStack) -> None:
    await wait_for_servers(settings, START_SECONDS_MAX)
    try:
        for publisher in worker.publishers:
            stack.push_async_callback(publisher.stop)
            await publisher.start()
    except (KafkaError, OSError) as error:
        raise StartError(f"Kafka at {settings.kafka} refuses the worker's producer: {error}") from error
    stack.push_async_callback(worker.endpoint.stop)
    try:
        port = await worker.endpoint.start(settings.host, settings.worker_port)
    except OSError as error:
        reason = f"port {settings.worker_port} on {settings.host} cannot be used: {error.strerror}"
        raise StartError(f"the worker's endpoint cannot listen: {reason}; set STOCKTIDE_WORKER_PORT") from error
    stack.push_async_callback(worker.stop)
    reporting = report_while_waiting(logger.warning, "the worker", lambda: "; ".join(worker.troubles()) or None)
    stack.callback(asyncio.create_task(reporting, name="reporting").cancel)
    logger.info("Redis and Kafka answer; the worker joins its groups")
    await worker.start()
    name, role = settings.worker_name, settings.worker_role
    logger.info("worker %s (role %s) serves /readyz and /metrics on port %d", name, role, port)
