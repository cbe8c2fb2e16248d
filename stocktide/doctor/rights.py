"""Which rights Stocktide needs on Redis, and which of them its user lacks.

In: a client. Out: the commands that the server would refuse to this user, on these keys. A script asks the server
itself (`redis.acl_check_cmd`); nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from redis.asyncio import Redis

# Every command that a script or a client of ours gives, in a form that the server can check; `{key}` is a key of ours,
# `{channel}` a channel.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("DBSIZE",),
    ("DEL", "{key}"),
    ("EVALSHA", "x", "1", "{key}"),
    ("GET", "{key}"),
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
    ("ZRANGEBYLEX", "{key}", "-", "+"),
    ("ZRANGEBYSCORE", "{key}", "0", "1"),
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


async def missing_permissions(redis: Redis, prefix: str) -> Sequence[str]:
    """The commands that this user may not give on keys and channels that begin with `prefix`. Raises RedisError,
    NoPermissionError among them where it may not even run a script."""
    key = f"{prefix}doctor"
    commands = [[part.format(key=key, channel=key) for part in command] for command in COMMANDS]
    # No key is named as such: one that is forbidden would end the call.
    missing = await redis.eval(_CHECK, 0, orjson.dumps(commands))
    return [name.decode() if isinstance(name, bytes) else str(name) for name in missing]
