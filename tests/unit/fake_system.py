"""A fake of a running `up`: its lock is held and its files exist, but no server runs."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stocktide.up.data_folder import LOCK_FILE
from stocktide.up.run_file import ReadyFile, RunFile


def ready_on(port: int, app_id: str = "stocktide", kafka: str = "", redis: str = "") -> ReadyFile:
    """The ready file of a system with its API on `port`, Kafka on the next port and Redis on the one after."""
    return ReadyFile(
        api=f"http://127.0.0.1:{port}",
        worker="",
        kafka=kafka or f"127.0.0.1:{port + 1}",
        redis=redis or f"redis://127.0.0.1:{port + 2}/0",
        app_id=app_id,
        topics={},
        pids={"api": 11, "worker": 12, "kafka": 0},
    )


@contextmanager
def standing(data: Path, ready: ReadyFile, partitions: int = 4) -> Iterator[Path]:
    """Hold the lock for the body; the files remain, as after a crash."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        RunFile(data, partitions).write(ready)
        yield data
