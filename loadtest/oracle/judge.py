"""The judge: a history in, a verdict out; and a live judge that reports violations during the run.

The checkers know only the contract: the promises, the rules, the public topics and the answers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from stocktide.loadtest.oracle.answers import AnswerContradicted, AnswerLost
from stocktide.loadtest.oracle.channels import FEED_LAG_MS_MAX, ChannelNotConverged, ChannelTracker, VersionWentBack
from stocktide.loadtest.oracle.dispatcher import Listener, RecordDispatcher
from stocktide.loadtest.oracle.evidence import EvidenceCollector
from stocktide.loadtest.oracle.history import HistoryRecord
from stocktide.loadtest.oracle.holds import HoldEndedTwice, HoldLeaked
from stocktide.loadtest.oracle.inputs import PARK_MS, InputUnaccounted
from stocktide.loadtest.oracle.log_explains import LogDoesNotExplain
from stocktide.loadtest.oracle.movements import MovementTracker
from stocktide.loadtest.oracle.on_hand import CountedTwice
from stocktide.loadtest.oracle.orders import OrderTracker
from stocktide.loadtest.oracle.oversold import Oversold
from stocktide.loadtest.oracle.policies import PolicyTracker
from stocktide.loadtest.oracle.queue_order import QueueOrder
from stocktide.loadtest.oracle.short import ShortNotTold
from stocktide.loadtest.oracle.stands_still import StandsStill
from stocktide.loadtest.oracle.stocks import StockTracker
from stocktide.loadtest.oracle.verdict import Checker, Verdict, Violation

# The records, or a function that iterates over them from the start at each call.
HistorySource = Sequence[HistoryRecord] | Callable[[], Iterable[HistoryRecord]]
# Records that a live judge keeps for evidence: some seconds of a run.
RECENT_RECORDS_MAX = 5_000


class CheckerSet:
    """All checkers and trackers on one dispatcher."""

    def __init__(
        self,
        park_ms: int,
        behind_ms: int = FEED_LAG_MS_MAX,
        live_only: bool = False,
        recorded_live: bool = False,
    ) -> None:
        orders, movements, stocks = OrderTracker(), MovementTracker(), StockTracker()
        channels, policies = ChannelTracker(behind_ms), PolicyTracker()
        self.checkers: tuple[Checker, ...] = (
            Oversold(orders, movements, stocks),
            AnswerContradicted(orders),
            HoldEndedTwice(orders),
            VersionWentBack(channels, stocks, orders),
        )
        if recorded_live:
            self.checkers += (StandsStill(),)
        if not live_only:
            self.checkers += (
                AnswerLost(orders),
                CountedTwice(orders, movements, stocks, park_ms),
                HoldLeaked(orders, stocks, movements),
                ChannelNotConverged(channels),
                LogDoesNotExplain(orders, movements, stocks),
                InputUnaccounted(orders, movements, park_ms),
                ShortNotTold(orders, stocks, policies),
                QueueOrder(orders, policies),
            )
        # Checkers read the trackers of orders, movements and stock after these have handled a record, but that of
        # channels before: `VersionWentBack` compares an update with the state before it.
        listeners: tuple[Listener, ...] = (orders, movements, stocks, policies, *self.checkers, channels)
        self.dispatcher = RecordDispatcher(listeners)


def judge(
    history: HistorySource,
    *,
    park_ms: int = PARK_MS,
    behind_ms: int = FEED_LAG_MS_MAX,
    recorded_live: bool = False,
) -> Verdict:
    """Judge a run.

    `park_ms` is how long an event waits for its order in the installation that ran; `behind_ms` is the maximum lag of
    its APIs behind the topics. With `recorded_live` the rows were recorded when they arrived, so that stalls can be
    detected. The history is read once, and a second time for evidence if there are violations.
    """
    checker_set = CheckerSet(park_ms, behind_ms, recorded_live=recorded_live)
    dispatcher = checker_set.dispatcher
    for record in _records(history):
        dispatcher.feed(record)
    dispatcher.end()
    for checker in checker_set.checkers:
        checker.end()
    checked = tuple(checker.checked() for checker in checker_set.checkers)
    if any(result.violations for result in checked):
        evidence = EvidenceCollector(violation for result in checked for violation in result.violations)
        for record in _records(history):
            evidence.add(record)
        checked = tuple(
            structs.replace(
                result, violations=tuple(evidence.with_evidence(violation) for violation in result.violations)
            )
            for result in checked
        )
    return Verdict(checked, tuple(_invalid(dispatcher)), dispatcher.records)


class LiveJudge:
    """Judges during the run: overselling, contradicted answers, holds that end twice, versions that go back."""

    def __init__(self, *, recorded_live: bool = False) -> None:
        self._checker_set = CheckerSet(PARK_MS, live_only=True, recorded_live=recorded_live)
        self._recent: deque[HistoryRecord] = deque(maxlen=RECENT_RECORDS_MAX)
        self._reported: Counter[str] = Counter()

    def feed(self, record: HistoryRecord) -> list[Violation]:
        """Add one record; the violations that it reveals."""
        self._recent.append(record)
        self._checker_set.dispatcher.feed(record)
        new = [
            violation
            for checker in self._checker_set.checkers
            for violation in checker.violations[self._reported[checker.name] :]
        ]
        if not new:
            return []
        self._reported = Counter({checker.name: len(checker.violations) for checker in self._checker_set.checkers})
        evidence = EvidenceCollector(new)
        for recent in self._recent:
            evidence.add(recent)
        return [evidence.with_evidence(violation) for violation in new]


def _records(history: HistorySource) -> Iterable[HistoryRecord]:
    return history() if callable(history) else history


def _invalid(dispatcher: RecordDispatcher) -> Iterable[str]:
    if not dispatcher.records:
        yield "the history is empty"
    elif dispatcher.quiesced_at is None:
        yield "it never came to rest: what is final is not known"
    if dispatcher.unmatched_responses:
        yield f"{dispatcher.unmatched_responses} answers belong to nothing that was asked"
