"""The model's faults on the real code, and protocols that are broken on purpose; `soak` takes many seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stocktide.streams.journal.record import Position
from stocktide.tables.ledger.submission import Unsettled
from stocktide.tables.recovery.journal_scan import JournalScan as TakeoverWalk
from stocktide.tables.settlement.listener import Settlement, SettlementListener
from tests.harness.servers import RedisServer
from tests.protocol.fault_run import FaultRun
from tests.protocol.rig import ProtocolRig, open_rig

# Runs of a broken protocol: what one of them shows depends on timing too.
TRIES_MAX = 9
# Seeds with most kinds of faults: above all forks, owners that race and stall, a journal that ages out.
SEEDS = (13, 33, 59)
BREAKING_SEEDS = (33, 59, 26)
# A run of a broken protocol may never come to rest.
REST_SECONDS_MAX = 5.0


@pytest.mark.parametrize(
    "seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1_000, 1_200))]
)
async def test_the_models_faults_break_no_promise_of_the_real_code(rig: ProtocolRig, seed: int) -> None:
    await FaultRun(rig, seed).run()


def _ignores_the_token(patch: pytest.MonkeyPatch) -> None:
    """A caller that ignores the token (rule R7)."""
    settled = SettlementListener.settled

    async def careless(self: SettlementListener, batch: int, token: str, timeout: float) -> Settlement:
        outcome = await settled(self, batch, token, timeout)
        return Settlement.SETTLED if outcome is Settlement.LOST else outcome

    patch.setattr(SettlementListener, "settled", careless)


def _takes_over_without_comparing_tokens(patch: pytest.MonkeyPatch) -> None:
    """A takeover that compares only the batch's number."""

    def careless(self: TakeoverWalk, batch: int, token: str) -> Position | None:
        return next((each for each in (self.start, *self.positions) if each.batch == batch), None)

    patch.setattr(TakeoverWalk, "position_of", careless)


def _answers_before_the_settlement(patch: pytest.MonkeyPatch) -> None:
    """A caller that does not wait for the journal (rule R7)."""

    async def careless(self: SettlementListener, batch: int, token: str, timeout: float) -> Settlement:
        return Settlement.SETTLED

    patch.setattr(SettlementListener, "settled", careless)


@pytest.mark.parametrize(
    ("breaks", "finds"),
    [
        (_ignores_the_token, "the log has another answer"),
        (_answers_before_the_settlement, "the log has another answer"),
        # This shows only where a fork is shorter than the journal, which depends on timing.
        pytest.param(_takes_over_without_comparing_tokens, "out_of_order", marks=pytest.mark.soak),
    ],
)
async def test_a_run_finds_a_broken_protocol(
    valkey: RedisServer,
    app_id: str,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[pytest.MonkeyPatch], None],
    finds: str,
) -> None:
    breaks(monkeypatch)
    seen = []
    for attempt in range(TRIES_MAX):
        async with open_rig(valkey.url, f"{app_id}-{attempt}") as rig:
            run = FaultRun(rig, BREAKING_SEEDS[attempt % len(BREAKING_SEEDS)], rest_seconds=REST_SECONDS_MAX)
            seen.append(await _find_fault(run, rig))
        if finds in seen[-1]:
            return
    raise AssertionError(f"{TRIES_MAX} runs did not find {finds!r}: {seen}")


async def _find_fault(run: FaultRun, rig: ProtocolRig) -> str:
    """The error of a run; of one that never comes to rest, the error of its last takeover."""
    try:
        await run.run()
    except AssertionError as broken:
        return str(broken)
    except (TimeoutError, Unsettled):
        return f"no rest: {rig.relays[-1].error}"
    return "nothing"
