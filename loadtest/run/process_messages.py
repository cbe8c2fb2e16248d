"""The messages between the processes of a load test: lines of JSON over the standard streams.

In: an `Assignment`, then `LoadCommand`s, from the controller to each load worker. Out: `LoadWorkerReport`s.
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
    """The role of a load worker: to push, as the `index`-th of `processes`, or to run `subscribers` subscribers.

    `clock_offset` gives all processes the same clock; `history` is the path of the file to write. `file` (a path),
    `speed` and `form`: orders of a real file, this many times as fast, instead of generated ones.
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
    """The next step. `start`: generate a stretch of load; `record`: record what every subscriber holds; `end`: exit.

    `zero_at`: the start of the load, `begins_at`: that of this stretch, both s of the machine's monotonic clock.
    `first`: the number of the stretch's first order. `stretch` seeds its random numbers. `versions`: by channel and
    SKU, the last published version, which every subscriber should have before `record` is carried out.
    """

    do: Literal["start", "record", "end"]
    zero_at: float = 0.0
    begins_at: float = 0.0
    shape: Shape = "steady"
    seconds: float = 0.0
    peak: float = 0.0
    first: int = 0
    stretch: int = 0
    versions: dict[str, dict[str, int]] = {}


class LoadWorkerReport(Struct, frozen=True):
    """The state of a load worker. Every record up to `at` (ms of the history's clock) is in its file.

    `ready`: it is connected. `done`: the command is carried out; `part` then has all measurements. `recent`: the
    measurements since the last report. `failure`: why it cannot go on.
    """

    at: int = 0
    ready: bool = False
    done: bool = False
    totals: dict[str, int] = {}
    in_flight: int = 0
    recent: SecondMeasurements | None = None
    part: Measurements | None = None
    failure: str | None = None
