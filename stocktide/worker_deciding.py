"""The role that decides: input events → settled decisions; the relay; the timers of the ledger; audits.

In: the settings and two clients of Redis. Out: a role of `stocktide worker`. It keeps the group, named as the app, that
consumed every topic before the roles were separate.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from stocktide.agents.endpoint import EvictionMonitor
from stocktide.agents.intake import Intake, SettledSteps, submit_movements, submit_orders
from stocktide.agents.maintenance.audit_schedule import AuditSchedule, run_audit_process
from stocktide.agents.maintenance.expiry import run_expiry
from stocktide.agents.maintenance.restate import RestatePass
from stocktide.agents.mapping.agent import MappingAgent
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.agents.relay import Relay
from stocktide.agents.relay_assignment import RelayAssignment, RunningRelay
from stocktide.intake_settings import read_mappings, read_tokens
from stocktide.settings import Settings
from stocktide.streams.contract.documents import AuditStatus
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.kafka.groups import deciding_group
from stocktide.streams.topics import ALERTS, DEAD_LETTERS, INTAKE, JOURNAL, MOVEMENTS, ORDERS
from stocktide.tables.derived_rows import DerivedTopics
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.settlement.listener import SettlementListener
from stocktide.tables.settlement.stalls import StepStatus
from stocktide.traced_agents import make_agent_traces
from stocktide.traced_parts import make_submitter
from stocktide.worker_role import WorkerRole

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing

# The partition of `orders` whose owner runs the relay of shard 0: the shard of that number.
SHARD = 0


class DecidingRole(WorkerRole):
    """Decides. `redis` is for commands; the relay's blocking read needs its own client, `relay_redis`."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        relay_redis: Redis,
        metrics: WorkerMetrics,
        tracing: Tracing | None = None,
    ) -> None:
        super().__init__(settings, deciding_group(settings.app_id), settings.worker_name, metrics, tracing)
        self._traces = make_agent_traces(tracing)
        app_id = settings.app_id
        self._redis = redis
        self._limits = settings.ledger_limits()
        self._settlements = SettlementListener(redis, app_id)
        self.submitter = make_submitter(Ledger(redis, app_id, self._limits), self._settlements, tracing)
        self._relay_assignment = RelayAssignment(partial(self._make_relay, relay_redis))
        self._eviction = EvictionMonitor(redis)
        self.steps = {"expiry": StepStatus()}
        self._audits: AuditSchedule | None = None
        dead_letters, alerts = DEAD_LETTERS.full_name(app_id), ALERTS.full_name(app_id)
        self._intake = Intake(self.submitter, self.publisher, dead_letters, alerts, metrics)
        for topic, submit in ((ORDERS, submit_orders), (MOVEMENTS, submit_movements)):
            workers = PartitionWorkers(
                topic.name, partial(submit, intake=self._intake), self.app.membership, around=self._traces.submitting
            )
            self.workers[topic] = workers
            self._consume(topic, workers.follow)
        mappings = read_mappings()
        mapping = MappingAgent(mappings, read_tokens(mappings), self.publisher, app_id, settings.partitions, metrics)
        self.workers[INTAKE] = PartitionWorkers(
            INTAKE.name, mapping.map_chunk, self.app.membership, around=self._traces.mapping
        )
        self._consume(INTAKE, self.workers[INTAKE].follow)
        self.app.on_partitions_assigned.connect(self._on_assigned)

    @property
    def relay(self) -> RunningRelay | None:
        """The relay, if it runs here."""
        return self._relay_assignment.relay

    @property
    def settled_steps(self) -> SettledSteps:
        """How much of the chunk of each partition is settled."""
        return self._intake.settled_steps

    async def start(self) -> None:
        """See `WorkerRole`."""
        self._settlements.start()
        self._eviction.start()
        await super().start()
        restating = RestatePass(self.submitter, self._count_keys, self._owns_shard, self._settings.restate_seconds)
        self.steps["restating"] = restating.steps
        self._run("expiry", run_expiry(self.submitter, self.metrics, self._settings.tick_ms, self.steps["expiry"]))
        self._run("restating", restating.run())
        if self._settings.audit_interval:
            self._run("auditing", self._make_audit_schedule().run())

    async def stop(self) -> None:
        """See `WorkerRole`; the relay is stopped last, because chunks in progress need it."""
        await super().stop()
        await self._relay_assignment.stop()
        await self._settlements.stop()
        await self._eviction.stop()

    def troubles(self) -> list[str]:
        """See `WorkerRole`."""
        troubles = super().troubles()
        if not self.app.membership.held:
            return troubles
        parts = (self._relay_assignment.trouble(), self._eviction.trouble)
        return [*troubles, *(trouble for trouble in parts if trouble is not None)]

    @property
    def settled_batch(self) -> int:
        """The newest batch that this process has heard of as settled."""
        return self._settlements.newest

    @property
    def last_audit(self) -> AuditStatus | None:
        """The last audit that this worker has made."""
        return None if self._audits is None else self._audits.last

    def _make_relay(self, redis: Redis, assigned: Callable[[], bool]) -> Relay:
        settings = self._settings
        log = KafkaLog(settings.kafka, JOURNAL.full_name(settings.app_id), SHARD, **self._security)
        owner = f"{settings.worker_name}-{os.getpid()}-{secrets.token_hex(4)}"
        source = DerivedTopics(settings.kafka, settings.app_id, **self._security)
        return Relay(
            *(log, LedgerControl(redis, settings.app_id), owner),
            source=source,
            limits=self._limits,
            assigned=assigned,
            traces=self._traces.batches,
        )

    def _make_audit_schedule(self) -> AuditSchedule:
        settings = self._settings
        audit = partial(run_audit_process, {**os.environ, **settings.as_environment()})
        alerts = ALERTS.full_name(settings.app_id)
        self._audits = AuditSchedule(
            audit, self._owns_shard, settings.audit_interval, self.publisher, alerts, self.metrics
        )
        return self._audits

    async def _count_keys(self) -> int:
        return int(await self._redis.dbsize())

    def _owns_shard(self) -> bool:
        return self.relay is not None and self.relay.blessed

    async def _on_assigned(self, _: Any, assigned: Any, **__: Any) -> None:
        place = (ORDERS.full_name(self._settings.app_id), SHARD)
        await self._relay_assignment.on_assigned(any((tp.topic, tp.partition) == place for tp in assigned))
