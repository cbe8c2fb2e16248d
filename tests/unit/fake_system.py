"""A system that runs as far as a command can see before it talks to a server: its lock is held, its files are there."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stocktide.up.data_folder import LOCK_FILE
from stocktide.up.run_file import ReadyFile, RunFile


def ready_on(port: int, app_id: str = "stocktide", kafka: str = "", redis: str = "") -> ReadyFile:
    """What a system says whose API is on `port`, its Kafka on the next one and its Redis on the one after."""
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
    """Run it for the body; at the end it dies, and leaves its files behind."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        RunFile(data, partitions).write(ready)
        yield data
