"""The doctor's examination of Redis: version, persistence, memory, replication, permissions.

In: the settings. Out: findings. INFO has most values; those that only CONFIG has are skipped with a note where CONFIG
is forbidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import redis.asyncio
from redis.exceptions import NoPermissionError, RedisError

from stocktide.doctor.finding import Finding, good, note, unfit, wrong
from stocktide.errors import ServerUnreachable
from stocktide.settings import Settings
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.wait_for_servers import ANSWER_SECONDS_MAX, wait_for_redis

REDIS_VERSION_MIN = 7
# Short: the doctor runs because something may be wrong.
REACH_SECONDS_MAX = 2.0
# Above this share of maxmemory the next burst may reach it, and then Redis refuses every write.
USED_SHARE_MAX = 0.8
# After a promotion the replica's missing tail is replayed from the journal, which takes long for a larger lag.
REPLICA_LAG_SECONDS_MAX = 10
_CONFIG = ("appendfsync", "save", "stop-writes-on-bgsave-error", "min-replicas-to-write")


# Every command that Stocktide's scripts and clients send, in a form that the server can check. `{key}` is a key with
# the prefix, `{channel}` a channel with it.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("DBSIZE",),
    ("DEL", "{key}"),
    ("EVALSHA", "x", "1", "{key}"),
    ("GET", "{key}"),
    ("HDEL", "{key}", "f"),
    ("HGET", "{key}", "f"),
    ("HGETALL", "{key}"),
    ("HMGET", "{key}", "f"),
    ("HSET", "{key}", "f", "v"),
    ("INFO", "server"),
    ("MGET", "{key}"),
    ("MSET", "{key}", "v"),
    ("PEXPIRE", "{key}", "1"),
    ("PTTL", "{key}"),
    ("PUBLISH", "{channel}", "m"),
    ("SCAN", "0"),
    ("SET", "{key}", "v"),
    ("SETRANGE", "{key}", "0", "v"),
    ("STRLEN", "{key}"),
    ("SUBSCRIBE", "{channel}"),
    ("TIME",),
    ("TYPE", "{key}"),
    ("UNLINK", "{key}"),
    ("XADD", "{key}", "1-0", "f", "v"),
    ("XLEN", "{key}"),
    ("XRANGE", "{key}", "-", "+"),
    ("XREAD", "STREAMS", "{key}", "0"),
    ("XTRIM", "{key}", "MINID", "0"),
    ("ZADD", "{key}", "1", "m"),
    ("ZCARD", "{key}"),
    ("ZCOUNT", "{key}", "0", "1"),
    ("ZRANGEBYLEX", "{key}", "-", "+"),
    ("ZRANGEBYSCORE", "{key}", "0", "1"),
    ("ZRANK", "{key}", "m"),
    ("ZREM", "{key}", "m"),
    ("ZREVRANGE", "{key}", "0", "1"),
    ("ZRANGE", "{key}", "0", "1"),
    ("EXISTS", "{key}"),
    ("STRLEN", "{key}"),
    ("ZSCORE", "{key}", "m"),
)

_CHECK = """
local missing = {}
for _, command in ipairs(cjson.decode(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(command))
  if known and not allowed then missing[#missing + 1] = command[1] end
end
return missing
"""


async def examine_redis(settings: Settings) -> list[Finding]:
    """Examine the server as far as its ACL allows."""
    access, prefix = settings.redis_access(), key_prefix(settings.app_id)
    try:
        await wait_for_redis(settings.redis, REACH_SECONDS_MAX, **access)
        client = redis.asyncio.Redis.from_url(
            settings.redis, **access, socket_timeout=ANSWER_SECONDS_MAX, decode_responses=True
        )
        try:
            about: Mapping[str, Any] = await client.info()
            config = await _read_config(client)
            missing = await _read_missing(client, prefix)
        finally:
            await client.aclose()
    except NoPermissionError as error:
        return [unfit(f"Redis does not let us look: {error}; docs/operations.md has the line for its ACL file")]
    except (ServerUnreachable, RedisError, OSError) as error:
        return [wrong(str(error))]
    database = int(client.connection_pool.connection_kwargs.get("db") or 0)
    return [*judge_permissions(missing, prefix), *judge_redis(about, config, database)]


async def _read_config(client: redis.asyncio.Redis) -> dict[str, str] | None:
    """The settings that only CONFIG has; None where the user may not read them or a provider removed the command."""
    try:
        found = await client.config_get(*_CONFIG)
    except (NoPermissionError, redis.exceptions.ResponseError):
        return None
    return {str(name): str(value) for name, value in found.items()}


async def _read_missing(client: redis.asyncio.Redis, prefix: str) -> Sequence[str]:
    try:
        return await missing_permissions(client, prefix)
    except NoPermissionError:
        return ["EVAL"]


async def missing_permissions(client: redis.asyncio.Redis, prefix: str) -> Sequence[str]:
    """The commands that this user may not send for keys and channels with `prefix`, as `redis.acl_check_cmd` says;
    nothing is read or written. Raises RedisError, with NoPermissionError where it may not even run a script."""
    key = f"{prefix}doctor"
    commands = [[part.format(key=key, channel=key) for part in command] for command in COMMANDS]
    # Keys go in as arguments: a forbidden one in KEYS would end the call.
    missing = await client.eval(_CHECK, 0, orjson.dumps(commands))
    return [name.decode() if isinstance(name, bytes) else str(name) for name in missing]


def judge_permissions(missing: Sequence[str], prefix: str) -> Iterator[Finding]:
    """Missing permissions of the user for keys and channels with `prefix`."""
    if missing:
        yield unfit(
            f"the user of STOCKTIDE_REDIS may not use {', '.join(missing)} on keys and channels {prefix}*: nothing can "
            "be decided; docs/operations.md has the line for the server's ACL file"
        )


def judge_redis(about: Mapping[str, Any], config: Mapping[str, str] | None, database: int = 0) -> Iterator[Finding]:
    """All findings from a server's INFO and, where it may be read, its CONFIG. `database` is Stocktide's."""
    yield from judge_server(about)
    yield from judge_memory(about)
    yield from judge_persistence(about, config or {})
    yield from judge_replication(about, config or {})
    yield from judge_other_databases(about, database)
    if config is None:
        yield note(
            f"CONFIG is not allowed to us, so {', '.join(_CONFIG)} could not be looked at: allow config|get, or look "
            "yourself"
        )


def judge_server(about: Mapping[str, Any]) -> Iterator[Finding]:
    """Version, role, cluster mode, loading."""
    name = "Valkey" if "valkey_version" in about else "Redis"
    version = str(about.get("valkey_version") or about.get("redis_version") or "0")
    if int(version.split(".")[0]) < REDIS_VERSION_MIN:
        yield unfit(f"{name} {version} is too old: {REDIS_VERSION_MIN} or later, for its scripts")
    else:
        yield good(f"{name} {version} answers")
    if about.get("role") != "master":
        yield unfit(f"the server is a {about.get('role')}: only a primary decides; point STOCKTIDE_REDIS at it")
    if about.get("cluster_enabled"):
        yield unfit("cluster mode is on: a shard is one server, and its calls are not redirected; cluster-enabled no")
    if about.get("loading"):
        yield wrong("the server is still loading its data: it decides nothing until then; ask again")


def judge_memory(about: Mapping[str, Any]) -> Iterator[Finding]:
    """Memory limit, use and eviction."""
    policy = about.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        yield unfit(f"maxmemory-policy is {policy}: a key that is evicted is stock that is lost; noeviction")
    if about.get("evicted_keys"):
        yield wrong(
            f"{about['evicted_keys']} key(s) were evicted since the server started: stock may be lost; `stocktide "
            "audit` tells what"
        )
    limit, used = int(about.get("maxmemory") or 0), int(about.get("used_memory") or 0)
    machine = int(about.get("total_system_memory") or 0)
    if not limit:
        yield note("maxmemory is not set: the system ends the server when memory runs out; set it below what there is")
        return
    if used > USED_SHARE_MAX * limit:
        yield wrong(
            f"{_mebibytes(used)} of {_mebibytes(limit)} (maxmemory) are used: when it is full, every order is refused; "
            "give it more"
        )
    if machine and limit > machine:
        yield note(f"maxmemory is {_mebibytes(limit)}, and the machine has {_mebibytes(machine)}: set it below that")


def judge_persistence(about: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    """Append-only file and snapshots."""
    if not about.get("aof_enabled"):
        yield wrong("appendonly is off: a restart forgets everything, and the worker has to rebuild it; appendonly yes")
    elif config.get("appendfsync") == "no":
        yield wrong("appendfsync is no: a power cut may lose half a minute of it; appendfsync everysec")
    elif config.get("appendfsync") == "always":
        yield note("appendfsync is always: every call waits for the disk; everysec is enough, the journal has the rest")
    if about.get("aof_enabled") and about.get("aof_last_write_status", "ok") != "ok":
        yield wrong("the append-only file could not be written: the server refuses every write; is its disk full?")
    if about.get("aof_enabled") and about.get("aof_last_bgrewrite_status", "ok") != "ok":
        yield wrong(
            "the append-only file could not be rewritten: it grows until the disk is full; see the server's log"
        )
    saves = bool(config.get("save"))
    if saves and about.get("rdb_last_bgsave_status", "ok") != "ok":
        stops = config.get("stop-writes-on-bgsave-error") == "yes"
        yield wrong(
            "the last snapshot (RDB) failed"
            + (": the server refuses every write" if stops else "")
            + "; is its disk full, or memory short for a fork? See the server's log"
        )
    elif saves and config.get("stop-writes-on-bgsave-error") == "yes":
        yield note(
            "stop-writes-on-bgsave-error is yes: a snapshot that fails stops all orders; with an append-only "
            'file, save "" or stop-writes-on-bgsave-error no'
        )


def judge_replication(about: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    """State and lag of the replicas."""
    replicas = [value for name, value in about.items() if re.fullmatch(r"slave\d+", name) and isinstance(value, dict)]
    for replica in replicas:
        where = f"the replica at {replica.get('ip')}:{replica.get('port')}"
        if replica.get("state") != "online":
            yield note(f"{where} is {replica.get('state')}: it cannot take over yet")
        elif int(replica.get("lag", 0)) > REPLICA_LAG_SECONDS_MAX:
            yield note(
                f"{where} is {replica['lag']} s behind: what it lacks when it takes over comes back from the journal, "
                "while nothing is decided"
            )
    wanted = int(config.get("min-replicas-to-write") or 0)
    healthy = int(about.get("min_slaves_good_slaves", len(replicas)))
    if wanted > healthy:
        yield wrong(f"min-replicas-to-write is {wanted}, and {healthy} follow closely: the server refuses every write")
    elif replicas and not wanted and config:
        yield note(
            "min-replicas-to-write is 0: a primary that is cut off goes on deciding; none of it counts, but who reads "
            "there reads old stock; 1"
        )


def judge_other_databases(about: Mapping[str, Any], database: int) -> Iterator[Finding]:
    """Keys of other applications."""
    for name, value in about.items():
        match = re.fullmatch(r"db(\d+)", name)
        if match and int(match[1]) != database and isinstance(value, dict) and value.get("keys"):
            yield note(
                f"database {match[1]} holds {value['keys']} key(s) of somebody else: each of its calls is a pause for "
                "every shopper, and its memory is ours too; a server of its own"
            )


def _mebibytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"
