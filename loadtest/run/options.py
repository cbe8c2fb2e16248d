"""The options of a load test.

In: the options of the command line. Out: a frozen `FlashSaleOptions`, its check, and values derived from it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stocktide.errors import StocktideError
from stocktide.loadtest.run.load_worker_process import OrderTransport
from stocktide.loadtest.workload import retail
from stocktide.loadtest.workload.retail import invoice_orders
from stocktide.loadtest.workload.retail_dates import DateOrder
from stocktide.loadtest.workload.retail_text import check_encoding
from stocktide.loadtest.workload.scenarios import BOT_SHARE, Goods
from stocktide.loadtest.workload.shapes import Shape, rate_of

# `file` replays a real file; `search` finds the highest rate that keeps the goal.
LoadKind = Shape | Literal["file", "search"]

CHANNELS = ("tmall", "jd", "pinduoduo", "douyin", "own-shop", "taobao", "kaola", "suning", "xiaohongshu", "vip")
SKUS_MAX = 100_000
RATE_MAX = 100_000.0
SECONDS_MAX = 86_400.0
SUBSCRIBERS_MAX = 5_000
PROCESSES_MAX = 64
UNITS_MAX = 1_000_000
# Short, so that holds expire within the run.
HOLD_SECONDS = 10
# A run waits until its last hold has ended.
HOLD_SECONDS_MAX = 600
# The stock of a hot SKU as a share of its demand: it sells out in the middle of the rush.
UNITS_SHARE = 0.4


class FlashSaleError(StocktideError):
    """The options cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashSaleOptions:
    """The options of a run.

    `rate`: orders/s at the peak; for a search, the highest to try. Two cores carry the default together with the
    system, the load workers and two hundred subscribers. `units`: of each hot SKU, None for as many as sell out.
    `changes`: the share of orders that are sold already, draw from a pool, give units back or are paid late; with any,
    the hot SKUs have a pool and an announced receipt, which slips. `sockets`: the share of subscribers that use a
    WebSocket.
    `hold_seconds`: the hold of an unpaid order. `goal_ms`: the p99 to keep. `speed`: a multiple of a file's real time;
    `dates`, `encoding`: its format. `pids`: processes of the system on this machine, by name. `command`: starts a load
    worker. `run_file`: where the run is written instead of being judged.
    """

    shape: LoadKind = "spike"
    seconds: float = 60.0
    rate: float = 150.0
    door: OrderTransport = "http"
    skus: int = 200
    hot: int = 5
    hot_share: float = 0.9
    zipf: float = 1.1
    units: int | None = None
    channels: int = 5
    changes: float = 0.15
    subscribers: int = 50
    sockets: float = 0.5
    processes: int = 1
    seed: int = 1
    file: Path | None = None
    speed: float = 60.0
    dates: DateOrder = "iso"
    encoding: str = "utf-8"
    goal_ms: float = 100.0
    hold_seconds: int = HOLD_SECONDS
    run_file: Path | None = None
    report_html: Path | None = None
    report_json: Path | None = None
    live: bool = True
    api: str = "http://127.0.0.1:8080"
    kafka: str = "127.0.0.1:9092"
    app_id: str = "stocktide"
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    pids: Mapping[str, int] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "stocktide", "loadtest-tester")

    def check(self) -> None:
        """Raise FlashSaleError or RetailError where an option cannot be used."""
        bounds: tuple[tuple[str, float, float, float], ...] = (
            ("seconds", self.seconds, 1, SECONDS_MAX),
            ("rate", self.rate, 0.1, RATE_MAX),
            ("skus", self.skus, 1, SKUS_MAX),
            ("hot", self.hot, 1, self.skus),
            ("hot-share", self.hot_share, 0, 1),
            ("zipf", self.zipf, 0, 10),
            ("units", self.units or 1, 1, UNITS_MAX),
            ("hold-seconds", self.hold_seconds, 1, HOLD_SECONDS_MAX),
            ("channels", self.channels, 1, len(CHANNELS)),
            ("changes", self.changes, 0, 1),
            ("subscribers", self.subscribers, 0, SUBSCRIBERS_MAX),
            ("sockets", self.sockets, 0, 1),
            ("processes", self.processes, 1, PROCESSES_MAX),
            ("speed", self.speed, 0.001, 1_000_000),
            ("goal-ms", self.goal_ms, 0.1, 60_000),
        )
        for name, value, least, most in bounds:
            if not least <= value <= most:
                raise FlashSaleError(f"--{name} is {value:g}: from {least:g} to {most:g}")
        if (self.shape == "file") != (self.file is not None):
            raise FlashSaleError("--shape file and --file FILE go together")
        check_encoding(self.encoding)
        for path in (self.run_file, self.report_html, self.report_json):
            if path is not None and not path.absolute().parent.is_dir():
                raise FlashSaleError(f"{path} cannot be written: there is no folder {path.parent}")

    @property
    def form(self) -> retail.FileFormat:
        """The format of the file."""
        return retail.FileFormat(self.dates, self.encoding)

    def goods(self, mark: str) -> Goods:
        """The SKUs on sale, with names that begin with `mark`. Reads the file, if any. Raises RetailError."""
        names: tuple[str, ...] = ()
        if self.file is not None:
            demand: Counter[str] = Counter()
            for invoice in retail.read(self.file, self.form):
                for placed in invoice_orders(invoice):
                    demand.update(line["sku"] for line in placed["lines"])
            names = tuple(sku for sku, _ in demand.most_common())
        skus = len(names) or self.skus
        hot = min(self.hot, skus)
        channels = CHANNELS[: self.channels]
        return Goods(mark, skus, hot, self.hot_share, self.zipf, channels, self.hold_seconds, names, self.changes)

    def hot_units(self) -> int:
        """Units of each hot SKU at the start."""
        if self.units is not None:
            return self.units
        share = BOT_SHARE + (1 - BOT_SHARE) * self.hot_share
        return max(10, min(UNITS_MAX, round(UNITS_SHARE * share * self.expected() / self.hot)))

    def expected(self) -> float:
        """About how many orders are scheduled."""
        if self.shape == "file" or self.shape == "search":
            return self.rate * self.seconds / 2
        rate = rate_of(self.shape, self.seconds, self.rate)
        steps = 1_000
        return sum(rate((step + 0.5) * self.seconds / steps) for step in range(steps)) * self.seconds / steps

    def settings(self) -> dict[str, Any]:
        """The options for a report, without addresses and keys."""
        names = ("shape", "seconds", "rate", "door", "skus", "hot", "hot_share", "zipf", "channels", "changes")
        settings = {
            name: getattr(self, name) for name in (*names, "subscribers", "sockets", "processes", "seed", "goal_ms")
        }
        if self.file is not None:
            settings |= {"file": self.file.name, "speed": self.speed, "dates": self.dates, "encoding": self.encoding}
        return settings | {"units": self.hot_units(), "hold_seconds": self.hold_seconds}
