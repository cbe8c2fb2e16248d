"""Lua steps, assembled from modules and called by digest.

In: the name of a file below `lua/`. Out: a callable that runs it on a server. `require('NAME')` gives the table that
`lua/includes/NAME.lua` returns; a module is loaded at its first use, and once. The head of a file lists what it depends
on (`local NAME = require('NAME')`), and these have no cycle; inside a function, a module may be required that depends
on the one that requires it, or that is rarely needed. `codes` and `words` are made from `tables/ledger/codes.py`, and
the names of its constants (`O.RESERVED`, `SKU.version`, `MSGPACK.NIL`) are replaced by their values. Every script gets
the shard's key prefix as KEYS[1] and derives its other keys from it: all have the same shard tag.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from stocktide.errors import StocktideError
from stocktide.tables.ledger.codes import lua_codes, lua_constants, lua_words

_REQUIRE = re.compile(r"\brequire\('(\w+)'\)")
_DEPENDENCY = re.compile(r"^local \w+ = require\('(\w+)'\)$", re.MULTILINE)
_CONSTANT = re.compile(rf"\b({'|'.join(lua_constants())})\.(\w+)\b")
# Modules that are not files.
GENERATED = {"codes": lua_codes, "words": lua_words}
_FOLDER = files("stocktide.tables.ledger") / "lua"
_REQUIRE_FUNCTION = """\
local loaders, loaded = {}, {}
local function require(name)
  local module = loaded[name]
  if not module then
    module = loaders[name]()
    loaded[name] = module
  end
  return module
end
"""


class ModuleError(StocktideError):
    """A required module does not exist, or modules depend on each other in a circle."""


@cache
def load_source(name: str) -> str:
    """The text of step `name` with all modules that it may require. Raises FileNotFoundError and ModuleError."""
    step = (_FOLDER / f"{name}.lua").read_text("utf-8")
    modules: dict[str, str] = {}
    _add_modules(name, step, modules)
    try:
        order = list(TopologicalSorter({each: _DEPENDENCY.findall(modules[each]) for each in modules}).static_order())
    except CycleError as error:
        raise ModuleError(f"modules depend on each other in a circle: {' -> '.join(error.args[1][::-1])}") from None
    loaders = (f"loaders.{each} = function()\n{modules[each]}end\n" for each in order)
    return _with_constants(f"{_REQUIRE_FUNCTION}{''.join(loaders)}{step}")


def _add_modules(file: str, text: str, modules: dict[str, str]) -> None:
    """Add the modules that `text` requires, and those that they require."""
    for name in _REQUIRE.findall(text):
        if name not in modules:
            try:
                modules[name] = _module_text(name)
            except FileNotFoundError:
                raise ModuleError(f"{file}.lua requires {name}, and includes/{name}.lua does not exist") from None
            _add_modules(name, modules[name], modules)


def _module_text(name: str) -> str:
    generated = GENERATED.get(name)
    return generated() if generated else (_FOLDER / "includes" / f"{name}.lua").read_text("utf-8")


def _with_constants(text: str) -> str:
    constants = lua_constants()
    return _CONSTANT.sub(lambda match: constants[match[1]][match[2]], text)


class Script:
    """One Lua step on one server: EVALSHA, and EVAL if the server does not have it yet. `writes` False: the server
    refuses whatever it would write."""

    def __init__(self, redis: Redis, prefix: str, name: str, writes: bool = True) -> None:
        self._call: Callable[..., Awaitable[Any]] = redis.evalsha if writes else redis.evalsha_ro
        self._load: Callable[..., Awaitable[Any]] = redis.eval if writes else redis.eval_ro
        self._prefix = prefix
        self._source = load_source(name)
        self._digest = sha1(self._source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, *arguments: bytes | str | int) -> Any:
        """Run the step. Raises redis-py's errors; a script's own refusals are ResponseError."""
        try:
            return await self._call(self._digest, 1, self._prefix, *arguments)
        except NoScriptError:
            return await self._load(self._source, 1, self._prefix, *arguments)


def key_prefix(app_id: str, shard: int = 0) -> str:
    """`stocktide:{0}:`; the hash tag puts all keys of a shard on one node."""
    return f"{app_id}:{{{shard}}}:"
