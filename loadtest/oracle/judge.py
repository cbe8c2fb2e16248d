"""The judge: a history in, a verdict out; and a watch that says at once what can be seen at once.

The checkers know the contract only: the promises, the rules, the public topics and answers. Which of them exist, and
what each looks at, is the table `make_checkers`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import structs

from stocktide.loadtest.oracle.answers import AnswerContradicted, AnswerLost
from stocktide.loadtest.oracle.channels import FEED_LAG_MS_MAX, ChannelNotConverged, ChannelTracker, VersionWentBack
from stocktide.loadtest.oracle.dispatcher import Listener, RecordDispatcher
from stocktide.loadtest.oracle.evidence import EvidenceCollector
from stocktide.loadtest.oracle.history import HistoryRecord, read_history
from stocktide.loadtest.oracle.holds import HoldEndedTwice, HoldLeaked
from stocktide.loadtest.oracle.inputs import PARK_MS, InputUnaccounted
from stocktide.loadtest.oracle.log_explains import LogDoesNotExplain
from stocktide.loadtest.oracle.movements import MovementTracker
from stocktide.loadtest.oracle.on_hand import CountedTwice
from stocktide.loadtest.oracle.orders import OrderTracker
from stocktide.loadtest.oracle.oversold import CLOCK_SKEW_MS, Oversold
from stocktide.loadtest.oracle.stands_still import StandsStill
from stocktide.loadtest.oracle.stocks import StockTracker
from stocktide.loadtest.oracle.verdict import Checker, Verdict, Violation

# A file of a run, its records, or who gives them from the start as often as asked.
HistorySource = Path | Sequence[HistoryRecord] | Callable[[], Iterable[HistoryRecord]]
# Records that a watch keeps for evidence: some seconds of a run.
RECENT_RECORDS_MAX = 5_000


class CheckerSet:
    """All checkers on one stream."""

    def __init__(
        self,
        park_ms: int,
        clock_skew_ms: int,
        behind_ms: int = FEED_LAG_MS_MAX,
        live_only: bool = False,
        recorded_live: bool = False,
    ) -> None:
        orders, movements, stocks, channels = (
            OrderTracker(),
            MovementTracker(),
            StockTracker(),
            ChannelTracker(behind_ms),
        )
        self.checkers: tuple[Checker, ...] = (
            Oversold(orders, movements, stocks, clock_skew_ms),
            AnswerContradicted(orders),
            HoldEndedTwice(orders),
            VersionWentBack(channels, stocks, orders),
        )
        if recorded_live:
            self.checkers += (StandsStill(),)
        if not live_only:
            self.checkers += (
                AnswerLost(orders),
                CountedTwice(orders, movements, stocks),
                HoldLeaked(orders),
                ChannelNotConverged(channels),
                LogDoesNotExplain(orders, movements, stocks),
                InputUnaccounted(orders, movements, park_ms),
            )
        # Books of orders, movements and stock before the checkers, which ask them; that of channels after, because
        # `VersionWentBack` compares what comes with what was before.
        listeners: tuple[Listener, ...] = (orders, movements, stocks, *self.checkers, channels)
        self.stream = RecordDispatcher(listeners)


def judge(
    history: HistorySource,
    *,
    park_ms: int = PARK_MS,
    clock_skew_ms: int = CLOCK_SKEW_MS,
    behind_ms: int = FEED_LAG_MS_MAX,
    recorded_live: bool = False,
) -> Verdict:
    """Judge a run. `park_ms`: how long an event waits for its order in the installation that ran; `behind_ms`: how far
    its APIs were behind the topics at the most; `recorded_live`: rows were noted when they came, so that it can be told
    whether anything stood still.

    The history is read once, and once more for evidence where something was found.
    """
    bench = CheckerSet(park_ms, clock_skew_ms, behind_ms, recorded_live=recorded_live)
    stream = bench.stream
    for record in _records(history):
        stream.feed(record)
    stream.end()
    for checker in bench.checkers:
        checker.end()
    checked = tuple(checker.checked() for checker in bench.checkers)
    if any(part.violations for part in checked):
        evidence = EvidenceCollector(violation for part in checked for violation in part.violations)
        for record in _records(history):
            evidence.take(record)
        checked = tuple(
            structs.replace(part, violations=tuple(evidence.proved(violation) for violation in part.violations))
            for part in checked
        )
    return Verdict(checked, tuple(_invalid(stream)), stream.records)


class LiveJudge:
    """Judges while the run goes on: overselling, contradicted answers, holds that end twice, versions that go back."""

    def __init__(self, *, clock_skew_ms: int = CLOCK_SKEW_MS, recorded_live: bool = False) -> None:
        self._bench = CheckerSet(PARK_MS, clock_skew_ms, live_only=True, recorded_live=recorded_live)
        self._recent: deque[HistoryRecord] = deque(maxlen=RECENT_RECORDS_MAX)
        self._seen: Counter[str] = Counter()
        self.first: Violation | None = None

    def feed(self, record: HistoryRecord) -> list[Violation]:
        """Take in one record; what it shows to be broken, most often nothing."""
        self._recent.append(record)
        self._bench.stream.feed(record)
        fresh = [
            violation
            for checker in self._bench.checkers
            for violation in checker.violations[self._seen[checker.name] :]
        ]
        if not fresh:
            return []
        self._seen = Counter({checker.name: len(checker.violations) for checker in self._bench.checkers})
        evidence = EvidenceCollector(fresh)
        for recent in self._recent:
            evidence.take(recent)
        proved = [evidence.proved(violation) for violation in fresh]
        self.first = self.first or next(iter(proved), None)
        return proved


def _records(history: HistorySource) -> Iterable[HistoryRecord]:
    if isinstance(history, Path):
        return read_history(history)
    return history() if callable(history) else history


def _invalid(stream: RecordDispatcher) -> Iterable[str]:
    if not stream.records:
        yield "the history is empty"
    elif stream.rested_at is None:
        yield "it never came to rest: what is final is not known"
    if stream.strays:
        yield f"{stream.strays} answers belong to nothing that was asked"
