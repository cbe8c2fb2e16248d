"""What a process of Stocktide has of its machine or container, read from inside of it.

In: the settings. Out: a `ProcessView`. What cannot be read, as on another system than Linux, is None.
"""

from __future__ import annotations

import ctypes
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from stocktide.agents.notify.config import AlertsFileError
from stocktide.alerts_settings import read_alerts
from stocktide.settings import Settings
from stocktide.streams.contract.times import now_ms
from stocktide.wait_for_servers import ANSWER_SECONDS_MAX

# What `adjtimex` returns while nothing synchronises the clock.
_TIME_ERROR = 5
# Larger than the structure that it fills.
_TIMEX_BYTES = 512
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


@dataclass(frozen=True, slots=True)
class FileMode:
    """A file that holds a secret; `trouble` says why it cannot be read."""

    setting: str
    path: str
    mode: int = 0
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """What was read."""

    user: int = 1
    is_contained: bool = False
    descriptors_max: int | None = None
    memory_max: int | None = None
    data_trouble: str | None = None
    data_type: str | None = None
    data_free: int | None = None
    is_clock_synchronised: bool | None = None
    # How far our clock is ahead of that of Redis.
    ahead_ms: int | None = None
    keys: FileMode | None = None
    secrets: tuple[FileMode, ...] = field(default=())


async def read_process(settings: Settings) -> ProcessView:
    """Read everything."""
    data_trouble = _try_to_write(settings.data)
    free = None if data_trouble else os.statvfs(settings.data)
    keys = _mode_of("STOCKTIDE_KEYS_FILE", str(settings.keys_path))
    return ProcessView(
        user=os.geteuid(),
        is_contained=_is_contained(),
        descriptors_max=_descriptors_max(),
        memory_max=read_memory_max(Path("/sys/fs/cgroup")),
        data_trouble=data_trouble,
        data_type=_file_system(settings.data.absolute(), Path("/proc/self/mountinfo")),
        data_free=None if free is None else free.f_bavail * free.f_frsize,
        is_clock_synchronised=_is_clock_synchronised(),
        ahead_ms=await _ahead_of_redis(settings),
        keys=None if settings.open else keys,
        secrets=(
            *(
                _mode_of(f"STOCKTIDE_{name.upper()}", getattr(settings, name))
                for name in (
                    "kafka_sasl_password_file",
                    "redis_password_file",
                    "kafka_tls_key",
                    "redis_tls_key",
                    "tls_key",
                )
                if getattr(settings, name)
            ),
            *_modes_of_alerts(settings),
        ),
    )


def _modes_of_alerts(settings: Settings) -> Iterator[FileMode]:
    """The file of alerts, as URLs of robots are secrets, and the files that it names. None where it cannot be used: the
    doctor says that in any case."""
    try:
        config = read_alerts(settings)
    except AlertsFileError:
        return
    if config is not None:
        yield _mode_of("STOCKTIDE_ALERTS_FILE", settings.alerts_file)
        for path in config.secret_files:
            yield _mode_of("a file of STOCKTIDE_ALERTS_FILE", str(path))


def _is_contained() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(mark).exists() for mark in _CONTAINER_MARKS)


def read_memory_max(folder: Path) -> int | None:
    """The limit of the control group, of its second or first version; None if there is none."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        # The first version says "no limit" with a number near the largest.
        return int(text) if text.isdigit() and int(text) < 1 << 60 else None
    return None


def _descriptors_max() -> int | None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # a process raises its own limit to this
    return None if hard == resource.RLIM_INFINITY else hard


def _try_to_write(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _file_system(folder: Path, mounts: Path) -> str | None:
    """The type of the file system that holds a folder."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    found: tuple[int, str | None] = (0, None)
    for line in lines:
        before, _, after = line.partition(" - ")
        place = before.split(" ")[4]
        if folder.is_relative_to(place) and len(place) >= found[0]:
            found = (len(place), after.split(" ")[0])
    return found[1]


def _is_clock_synchronised() -> bool | None:
    """What the kernel knows of it; None where it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR


async def _ahead_of_redis(settings: Settings) -> int | None:
    try:
        client = redis.asyncio.Redis.from_url(
            settings.redis,
            **settings.redis_access(),
            socket_timeout=ANSWER_SECONDS_MAX,
            socket_connect_timeout=ANSWER_SECONDS_MAX,
        )
    except ValueError:
        return None
    try:
        before = now_ms()
        seconds, micros = await client.time()
        return (before + now_ms()) // 2 - (int(seconds) * 1000 + int(micros) // 1000)
    except (RedisError, OSError):
        return None  # the examination of Redis says why
    finally:
        await client.aclose()


def _mode_of(setting: str, path: str) -> FileMode:
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as error:
        return FileMode(setting, path, trouble=error.strerror or str(error))
    return FileMode(setting, path, mode, None if os.access(path, os.R_OK) else "Permission denied")
