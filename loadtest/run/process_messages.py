"""What the processes of a load test say to one another: a line of JSON each, over the standard streams.

In: an `Assignment`, then `LoadCommand`s, from the process that leads to each tester. Out: `LoadWorkerReport`s, from a
tester.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from stocktide.loadtest.measure.meter import Measurements, SecondMeasurements
from stocktide.loadtest.workload.retail import PLAIN, FileFormat
from stocktide.loadtest.workload.scenarios import Goods
from stocktide.loadtest.workload.shapes import Shape

OrderTransport = Literal["http", "kafka", "both"]


class Assignment(Struct, frozen=True):
    """What a tester is for: to push, as the `index`-th of `processes`, or to subscribe, `subscribers` times.

    `clock_offset` makes all write the same time; `history` is the path of the file that it writes. `file` (a path),
    `speed` and `form`: the orders of a real file, so many times as fast, instead of made-up ones.
    """

    role: Literal["push", "subscribe"]
    index: int
    processes: int
    seed: int
    goods: Goods
    api: str
    kafka: str
    app_id: str
    door: OrderTransport
    history: str
    clock_offset: float
    subscribers: int = 0
    file: str | None = None
    speed: float = 1.0
    form: FileFormat = PLAIN


class LoadCommand(Struct, frozen=True):
    """What to do next. `start`: push a stretch of load; `tell`: write down what every subscriber holds; `end`: leave.

    `zero_at`: when the load began, `begins_at`: when this stretch does, both s of the machine's monotonic clock.
    `first`: the number of the stretch's first order. `stretch` names it, for its chance. `versions`: by channel and SKU
    what was published last, which every subscriber is to have before it tells.
    """

    do: Literal["start", "tell", "end"]
    zero_at: float = 0.0
    begins_at: float = 0.0
    shape: Shape = "steady"
    seconds: float = 0.0
    peak: float = 0.0
    first: int = 0
    stretch: int = 0
    versions: dict[str, dict[str, int]] = {}


class LoadWorkerReport(Struct, frozen=True):
    """How a tester stands: everything that it knew up to `at` (ms of the record's clock) is in its file.

    `ready`: it is connected. `done`: what was ordered is done. `part`: what it has measured, with `done`. `recent`:
    what was measured since the last report. `failure`: it cannot go on, and why.
    """

    at: int = 0
    ready: bool = False
    done: bool = False
    totals: dict[str, int] = {}
    in_flight: int = 0
    recent: SecondMeasurements | None = None
    part: Measurements | None = None
    failure: str | None = None
