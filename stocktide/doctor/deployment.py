"""`stocktide doctor --deploy`: the doctor's examination of the process's own surroundings.

In: the settings. Out: findings. It has to run where the process runs: in its container, or as its user with its
environment. `process_view` reads, this module judges.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator

from stocktide.api.access.connections import DESCRIPTORS_RESERVED
from stocktide.doctor.finding import Finding, good, note, wrong
from stocktide.doctor.process_view import FileMode, ProcessView, read_process
from stocktide.settings import Settings, is_loopback

MEBIBYTE = 1024 * 1024
# An API or a worker takes about 150 MiB before it has work.
MEMORY_MIN = 256 * MEBIBYTE
# A table that is read back is written twice while it is compacted.
DATA_FREE_MIN = 1024 * MEBIBYTE
# Times of events and deadlines are compared with clocks of other machines.
AHEAD_MS_NOTED = 500
AHEAD_MS_MAX = 5_000
# As Kubernetes names the pods of a Deployment (in an alphabet that makes no words), and Docker its containers: another
# name after each start.
_PASSING_NAME = re.compile(r".*-[bcdfghjklmnpqrstvwxz2456789]{8,10}-[bcdfghjklmnpqrstvwxz2456789]{5}|[0-9a-f]{12}")
# Mounted for one container, whose processes may all read it.
_MOUNTED_SECRETS = "/run/secrets/"


async def examine_deployment(settings: Settings) -> list[Finding]:
    """Examine the surroundings of this process."""
    return list(judge_deployment(settings, await read_process(settings)))


def judge_deployment(settings: Settings, view: ProcessView) -> Iterator[Finding]:
    """All findings."""
    yield from judge_user(view)
    yield from judge_limits(settings, view)
    yield from judge_data(settings, view)
    yield from judge_clock(view)
    yield from judge_files(view)
    yield from judge_listening(settings, view)
    yield from judge_worker(settings)


def judge_user(view: ProcessView) -> Iterator[Finding]:
    """Who runs it."""
    if view.user == 0:
        yield wrong("the user is root: a fault in the process would own the machine; a user of its own, User= or USER")
    else:
        yield good(f"the user is {view.user}, not root")


def judge_limits(settings: Settings, view: ProcessView) -> Iterator[Finding]:
    """File descriptors and memory."""
    clients = settings.connections_max
    needed = clients + DESCRIPTORS_RESERVED
    if view.descriptors_max is not None and view.descriptors_max < needed:
        yield wrong(
            f"{view.descriptors_max} file descriptors are allowed, and STOCKTIDE_CONNECTIONS_MAX={clients} needs "
            f"{needed}: clients are refused before; LimitNOFILE=, ulimits, or fewer connections"
        )
    if view.memory_max is None:
        yield note("memory is not limited here: a process that grows takes it from its neighbours; limit it")
    elif view.memory_max < MEMORY_MIN:
        yield wrong(
            f"memory is limited to {_mebibytes(view.memory_max)}: it is ended under load; {_mebibytes(MEMORY_MIN)}"
        )
    else:
        yield good(f"memory is limited to {_mebibytes(view.memory_max)}")


def judge_data(settings: Settings, view: ProcessView) -> Iterator[Finding]:
    """The data folder."""
    where = f"STOCKTIDE_DATA={settings.data}"
    if view.data_trouble is not None:
        yield wrong(f"{where} cannot be written: {view.data_trouble}; a worker needs a folder of its user")
        return
    if view.data_type in ("tmpfs", "ramfs"):
        yield wrong(f"{where} is memory ({view.data_type}): tables and keys in it go with every restart; a disk")
    elif view.data_type == "overlay":
        yield note(f"{where} is in the container's own layer: it goes with the container; a volume, for a worker")
    elif view.data_free is not None and view.data_free < DATA_FREE_MIN:
        yield note(f"{where} has {_mebibytes(view.data_free)} left: a worker that cannot write its tables stops")
    else:
        yield good(f"{where} can be written")


def judge_clock(view: ProcessView) -> Iterator[Finding]:
    """Our clock."""
    if view.is_clock_synchronised is False:
        yield note("the kernel does not know the clock as synchronised: deadlines and times drift; chrony or timesyncd")
    if view.ahead_ms is None:
        return
    apart = abs(view.ahead_ms)
    what = f"the clock is {apart} ms {'ahead of' if view.ahead_ms > 0 else 'behind'} that of Redis"
    if apart > AHEAD_MS_MAX:
        yield wrong(f"{what}: holds end too early or too late; synchronise both")
    elif apart > AHEAD_MS_NOTED:
        yield note(f"{what}: synchronise both")


def judge_files(view: ProcessView) -> Iterator[Finding]:
    """Files that hold secrets."""
    if (keys := view.keys) is not None:
        if keys.trouble is not None:
            yield note(
                f"the keys in {keys.path} are not there for us ({keys.trouble}): an API here would refuse every call"
            )
        elif keys.mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield wrong(
                f"the keys in {keys.path} may be changed by others (mode {keys.mode:04o}): 0600, or 0440 mounted"
            )
        elif keys.mode & stat.S_IROTH and not keys.path.startswith(_MOUNTED_SECRETS):
            yield wrong(
                f"the keys in {keys.path} are for everybody to read (mode {keys.mode:04o}), and so is the secret that "
                "signs tickets: 0600"
            )
        else:
            yield good(f"the keys in {keys.path} are for us (mode {keys.mode:04o})")
    for secret in view.secrets:
        yield from _judge_secret(secret)


def _judge_secret(secret: FileMode) -> Iterator[Finding]:
    if secret.trouble is not None:
        yield wrong(f"{secret.setting}={secret.path} cannot be read: {secret.trouble}")
    elif secret.mode & stat.S_IROTH and not secret.path.startswith(_MOUNTED_SECRETS):
        yield note(f"{secret.setting}={secret.path} is for everybody to read (mode {secret.mode:04o}): 0600")


def judge_listening(settings: Settings, view: ProcessView) -> Iterator[Finding]:
    """Address, encryption and keys of the API, and how it ends."""
    if settings.open:
        yield wrong("STOCKTIDE_OPEN is 1: whoever reaches the API may do everything; keys")
    if view.is_contained and is_loopback(settings.host):
        yield wrong(f"STOCKTIDE_HOST={settings.host} is reached from inside this container only; 0.0.0.0")
    if not settings.tls_cert and not is_loopback(settings.host):
        yield note(
            f"STOCKTIDE_HOST={settings.host} serves without TLS: keys cross the network unencrypted, unless a proxy "
            "with TLS stands before it on a network of its own; STOCKTIDE_TLS_CERT"
        )
    if not settings.drain_seconds:
        yield note(
            "STOCKTIDE_DRAIN_SECONDS is 0: an API that is told to stop refuses what a load balancer still sends, and "
            "ends all feeds at once; 20, and a longer grace period"
        )


def judge_worker(settings: Settings) -> Iterator[Finding]:
    """The name of a worker, by which it takes back its partitions and finds its tables."""
    name = settings.worker_name
    if name == "worker":
        yield note("STOCKTIDE_WORKER_NAME is the default: good for one worker, each further one needs its own")
    elif _PASSING_NAME.fullmatch(name):
        yield wrong(
            f"STOCKTIDE_WORKER_NAME={name} looks like a name that changes with each start: its tables are read back "
            "each time, and its partitions wait for the time-out of its old name; a name that stays"
        )
    else:
        yield good(f"STOCKTIDE_WORKER_NAME={name}; no other worker may have it")


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:,.0f} MiB"
