"""Rows of the table out of the figures of a step, with the goals of the design (section 14) beside them."""

from __future__ import annotations

from typing import Any

from bench.size.report import SizeReport
from bench.size.seeding import SeedDurations
from bench.size.stage import StocktideProcess

REDIS_BYTES_A_SKU_MAX, WORKER_BYTES_A_SKU_MAX = 1024, 2048
REDO_SECONDS_MAX, RESTART_SECONDS_MAX = 10.0, 60.0


def tell_filling(
    notes: SizeReport, counts: dict[str, int], took: dict[str, SeedDurations], grown: dict[str, int]
) -> None:
    """How fast the shop was filled, and what Redis holds for it; by `skus` and `orders`."""
    for what, count in counts.items():
        seconds = took[what]
        notes.measured(
            f"filling, {what}",
            f"{count:,} in {seconds.decided:.0f} s ({count / seconds.decided:,.0f}/s), "
            f"derived and published {seconds.rest:.0f} s later",
            figures={"decided_seconds": seconds.decided, "rest_seconds": seconds.rest},
        )
    sku, order = (grown[what] / counts[what] for what in ("skus", "orders"))
    notes.measured(
        "Redis, memory per SKU",
        f"{sku:,.0f} bytes (and {order:,.0f} an open order)",
        goal="<= 1 KB",
        met=sku <= REDIS_BYTES_A_SKU_MAX,
        figures={"sku_bytes": sku, "order_bytes": order},
    )


def tell_worker_memory(notes: SizeReport, worker: StocktideProcess, skus: int, empty: int, when: str) -> None:
    """Resident bytes of a worker; `empty` is what one of an empty shop has."""
    now, peak = worker.memory()
    each = (now - empty) / skus
    notes.measured(
        f"worker {when}, memory per SKU",
        f"{each:,.0f} bytes ({now / 1e6:,.0f} MB, {peak / 1e6:,.0f} at the most; {empty / 1e6:,.0f} when empty)",
        goal="<= 2 KB",
        met=each <= WORKER_BYTES_A_SKU_MAX,
        figures={"bytes": now, "peak_bytes": peak, "empty_bytes": empty},
    )


def tell_audit(notes: SizeReport, name: str, found: dict[str, Any]) -> None:
    """An audit that ended."""
    if "keys" not in found:
        return
    notes.measured(
        name,
        f"{found['keys']:,} keys in {found['total_seconds']:.1f} s ({found['keys_a_second']:,.0f}/s), "
        f"{found['memory_bytes'] / 1e6:,.0f} MB ({found['bytes_a_key']:,.0f} a key)",
        figures=found,
    )


def tell_redos(notes: SizeReport, found: list[dict[str, Any]]) -> None:
    """Several outages in a row; the worst of them counts."""

    def each(name: str, form: str = ".2f") -> str:
        return ", ".join(format(one[name], form) for one in found)

    worst = max(one["blessed_seconds"] for one in found)
    notes.measured(
        "redo, from Redis's first answer to blessed",
        f"{each('blessed_seconds')} s; {each('batches_redone', ',')} batches of the last "
        f"{each('cut_seconds', '.1f')} s, after {each('load_seconds', '.1f')} s of loading",
        goal="<= 10 s",
        met=worst <= REDO_SECONDS_MAX and all(one["redos"] for one in found),
        figures={"runs": found},
    )
    notes.measured(
        "redo, from Redis's first answer to somebody told",
        f"{each('first_told_seconds')} s; longest pause after that {each('longest_pause_seconds')} s; "
        f"takeovers {each('takeovers', 'd')}; longest answer {each('longest_answer_seconds', '.1f')} s",
    )
    notes.measured(
        "redo, orders lost",
        f"{sum(one['lost'] for one in found)} of {sum(one['told'] for one in found):,} told by HTTP "
        f"and {sum(one['by_kafka'] for one in found):,} sent by Kafka",
    )
