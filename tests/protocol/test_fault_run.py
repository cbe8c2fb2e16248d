"""The model's faults drive the real code; `soak` takes many more seeds. And the walk sees what is broken on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from stocktide.streams.journal.record import Position
from stocktide.tables.ledger.submission import Unsettled
from stocktide.tables.recovery.journal_scan import JournalScan as TakeoverWalk
from stocktide.tables.settlement.listener import Settlement, SettlementListener
from tests.harness.servers import RedisServer
from tests.protocol.fault_run import FaultRun
from tests.protocol.rig import ProtocolRig

# Seeds that a broken protocol is given: what one walk shows depends on timing too.
TRIES_MAX = 9
# Seeds whose plans hold most kinds of faults: forks above all, owners that race and stall, a journal that ages out.
SEEDS = (13, 33, 59)
BREAKING_SEEDS = (33, 59, 26)
# A walk of a broken protocol may never come to rest.
REST_SECONDS_MAX = 5.0


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_models_faults_break_no_promise_of_the_real_code(stage: ProtocolRig, seed: int) -> None:
    await FaultRun(stage, seed).run()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1_000, 1_200))
async def test_the_models_faults_break_no_promise_of_the_real_code_with_many_seeds(
    stage: ProtocolRig, seed: int
) -> None:
    await FaultRun(stage, seed).run()


def _answers_whatever_settled(patch: pytest.MonkeyPatch) -> None:
    """A caller that ignores the token (rule R7)."""
    settled = SettlementListener.settled

    async def careless(self: SettlementListener, batch: int, token: str, timeout: float) -> Settlement:
        outcome = await settled(self, batch, token, timeout)
        return Settlement.SETTLED if outcome is Settlement.LOST else outcome

    patch.setattr(SettlementListener, "settled", careless)


def _takes_over_without_comparing_tokens(patch: pytest.MonkeyPatch) -> None:
    """A takeover that believes a batch's number."""

    def careless(self: TakeoverWalk, batch: int, token: str) -> Position | None:
        return next((each for each in (self.start, *self.positions) if each.batch == batch), None)

    patch.setattr(TakeoverWalk, "position_of", careless)


def _answers_before_it_is_read_back(patch: pytest.MonkeyPatch) -> None:
    """A caller that takes the ledger's word for the journal's (rule R7)."""

    async def careless(self: SettlementListener, batch: int, token: str, timeout: float) -> Settlement:
        return Settlement.SETTLED

    patch.setattr(SettlementListener, "settled", careless)


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (_answers_whatever_settled, "told what the log does not say"),
        (_answers_before_it_is_read_back, "told what the log does not say"),
        # Shows only where a fork is shorter than the journal, which timing decides: nothing for a short run.
        pytest.param(_takes_over_without_comparing_tokens, "out_of_order", marks=pytest.mark.soak),
    ],
)
async def test_a_walk_sees_a_protocol_that_is_broken(
    valkey: RedisServer,
    app_id: str,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[pytest.MonkeyPatch], None],
    says: str,
) -> None:
    breaks(monkeypatch)
    seen = []
    for attempt in range(TRIES_MAX):
        async with _stage(valkey, f"{app_id}-{attempt}") as stage:
            walk = FaultRun(stage, BREAKING_SEEDS[attempt % len(BREAKING_SEEDS)], rest_seconds=REST_SECONDS_MAX)
            seen.append(await _what_is_wrong(walk, stage))
        if says in seen[-1]:
            return
    raise AssertionError(f"{TRIES_MAX} walks saw nothing like {says!r}: {seen}")


async def _what_is_wrong(walk: FaultRun, stage: ProtocolRig) -> str:
    """What a walk says; of one that never comes to rest, why its last owner cannot take over."""
    try:
        await walk.run()
    except AssertionError as broken:
        return str(broken)
    except (TimeoutError, Unsettled):
        return f"no rest: {stage.relays[-1].error}"
    return "nothing"


@asynccontextmanager
async def _stage(valkey: RedisServer, app_id: str) -> AsyncIterator[ProtocolRig]:
    stage = ProtocolRig(valkey.url, app_id)
    try:
        yield stage
    finally:
        await stage.close()
