"""Places at which a fault test may stop or kill this process.

In: the environment variable `STOCKTIDE_FAILPOINTS`, e.g. `between_read_and_settle=stop:0.01,after_apply=kill:0.001`:
at that point the process sends itself SIGSTOP (somebody else has to continue it) or SIGKILL, with that probability.
Unset, which is always so outside of fault tests, `hit` is a function that does nothing.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

NAMES = frozenset(
    {
        "after_apply",  # the ledger decided, nobody waits for the token yet
        "before_send",  # the relay read the outbox
        "after_send",  # the relay handed a batch to Kafka
        "between_read_and_settle",  # the relay read a valid record back
        "after_settle",  # Redis knows, the tokens are published
        "before_answer",  # the caller knows, its client does not
        "in_takeover",  # the marker was read back, Redis is not blessed yet
    }
)
_SIGNALS = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}


def armed(text: str, draw: Callable[[], float] = random.random) -> Callable[[str], None]:
    """The function that `text` asks for. Raises ValueError that says which part cannot be read."""
    points: dict[str, tuple[signal.Signals, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = part.partition("=")
        action, _, chance = rest.partition(":")
        if name not in NAMES or action not in _SIGNALS:
            known = ", ".join(sorted(NAMES))
            raise ValueError(f"STOCKTIDE_FAILPOINTS: {part!r} is not NAME=stop|kill[:CHANCE] with NAME one of {known}")
        points[name] = (_SIGNALS[action], float(chance or "1"))

    def fail(name: str) -> None:
        point = points.get(name)
        if point is not None and draw() < point[1]:
            os.kill(os.getpid(), point[0])

    return fail if points else _pass


def _pass(name: str) -> None:
    pass


hit = armed(os.environ.get("STOCKTIDE_FAILPOINTS", ""))
