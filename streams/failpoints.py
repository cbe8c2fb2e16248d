"""Failpoints: places at which a fault test may stop or kill this process.

In: the environment variable `STOCKTIDE_FAILPOINTS`, e.g. `between_read_and_settle=stop:0.01,after_apply=kill:0.001`:
at that point the process sends itself SIGSTOP or SIGKILL, with that probability. `@FILE` reads the same from a file,
again whenever it changes. Out: `hit`, which does nothing while the variable is unset.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

NAMES = frozenset(
    {
        "after_apply",  # the ledger decided, the caller does not wait for the token yet
        "before_send",  # the relay read the outbox
        "after_send",  # the relay handed a batch to Kafka
        "between_read_and_settle",  # the relay read a valid record back
        "after_settle",  # Redis stored the position and published the tokens
        "before_answer",  # the caller's batch is settled, its client has no answer yet
        "in_takeover",  # the marker was read back, Redis is not blessed yet
        "mid_batch",  # one piece of a chunk of input is settled, others may not be
        "before_commit",  # a chunk is processed, its offset is not committed
        "in_recovery",  # a table is being restored from its topic
    }
)
_SIGNALS = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}
_Points = Mapping[str, tuple[signal.Signals, float]]


def make_hit(text: str, draw: Callable[[], float] = random.random) -> Callable[[str], None]:
    """The `hit` function for the setting `text`. Raises ValueError that names an invalid part."""
    if text.startswith("@"):
        return _WatchedFile(Path(text[1:]), draw).hit
    points = parse(text)
    return (lambda name: _fail(points, name, draw)) if points else _pass


def parse(text: str) -> _Points:
    """The signal and probability of each failpoint. Raises ValueError that names an invalid part."""
    points: dict[str, tuple[signal.Signals, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = part.partition("=")
        action, _, chance = rest.partition(":")
        if name not in NAMES or action not in _SIGNALS:
            known = ", ".join(sorted(NAMES))
            raise ValueError(f"STOCKTIDE_FAILPOINTS: {part!r} is not NAME=stop|kill[:CHANCE] with NAME one of {known}")
        points[name] = (_SIGNALS[action], float(chance or "1"))
    return points


class _WatchedFile:
    """Failpoints from a file that tests replace atomically; without a file there are none."""

    def __init__(self, file: Path, draw: Callable[[], float]) -> None:
        self._file = file
        self._draw = draw
        self._seen: tuple[int, int] | None = None
        self._points: _Points = {}

    def hit(self, name: str) -> None:
        try:
            stat = self._file.stat()
            if (seen := (stat.st_ino, stat.st_mtime_ns)) != self._seen:
                self._points, self._seen = parse(self._file.read_text()), seen
        except FileNotFoundError:
            self._points, self._seen = {}, None
        _fail(self._points, name, self._draw)


def _fail(points: _Points, name: str, draw: Callable[[], float]) -> None:
    point = points.get(name)
    if point is not None and draw() < point[1]:
        os.kill(os.getpid(), point[0])


def _pass(name: str) -> None:
    pass


hit = make_hit(os.environ.get("STOCKTIDE_FAILPOINTS", ""))
