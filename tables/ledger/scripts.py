"""Lua steps, assembled from small files and called by digest.

In: the name of a file below `lua/`. Out: a callable that runs it on a server. A line `-- @include NAME` is replaced by
`lua/includes/NAME.lua`, and `-- @include codes` by the words and codes of `tables/ledger/codes.py`; names of outcomes
and positions (`O.RESERVED`, `SKU.version`) are replaced by their values. Every script gets the shard's key prefix as
KEYS[1] and derives its other keys from it: all have the same shard tag.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from stocktide.tables.ledger.codes import lua_codes, lua_constants

_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)
_CONSTANT = re.compile(r"\b(O|SKU|WAREHOUSE)\.(\w+)\b")
_FOLDER = files("stocktide.tables.ledger") / "lua"


@cache
def load_source(name: str) -> str:
    """The text of step `name` with its includes. Raises FileNotFoundError."""
    text = _INCLUDE.sub(lambda match: _include(match[1]), (_FOLDER / f"{name}.lua").read_text(encoding="utf-8"))
    return _with_constants(text)


def load_includes(*names: str) -> str:
    """The text of some includes, one after the other."""
    return _with_constants("".join(map(_include, names)))


def _include(name: str) -> str:
    return lua_codes() if name == "codes" else (_FOLDER / "includes" / f"{name}.lua").read_text("utf-8")


def _with_constants(text: str) -> str:
    constants = lua_constants()
    return _CONSTANT.sub(lambda match: constants[match[1]][match[2]], text)


class Script:
    """One Lua step on one server: EVALSHA, and EVAL if the server does not have it yet."""

    def __init__(self, redis: Redis, prefix: str, name: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._source = load_source(name)
        self._digest = sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, *arguments: bytes | str | int) -> Any:
        """Run the step. Raises redis-py's errors; a script's own refusals are ResponseError."""
        try:
            return await self._redis.evalsha(self._digest, 1, self._prefix, *arguments)
        except NoScriptError:
            return await self._redis.eval(self._source, 1, self._prefix, *arguments)


def key_prefix(app_id: str, shard: int = 0) -> str:
    """`stocktide:{0}:`; the hash tag puts all keys of a shard on one node."""
    return f"{app_id}:{{{shard}}}:"
