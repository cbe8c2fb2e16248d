"""The types of a mapping file, and its sources. `mapping_reader` reads it.

A *source* is text: `header:NAME`, `query:NAME`, `received` (when the webhook came), `digest:lines` (in an id: the
event's own lines), or a JMESPath expression. A list of sources gives the first value that is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, Literal

import jmespath
from msgspec import Meta, Struct

from stocktide.streams.contract.events import Name

# Calls of a platform's API each second that a file may ask for.
PER_SECOND_MAX = 100.0

# A source of an id: what the event does, where the platform has no number for it.
LINES_DIGEST = "digest:lines"

Sources = str | list[str]
# True: go on; false: there is nothing to do; a text: the word's translation.
Translation = bool | str
EventType = Literal[
    "order.placed",
    "order.paid",
    "order.cancelled",
    "order.shipped",
    "order.returned",
    "stock.received",
    "stock.adjusted",
]


class _Part(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Verify(_Part, frozen=True):
    """How a signature is checked. `parts` are what an md5 is composed of: sources, `raw` and `secret`."""

    kind: Literal["hmac-sha256", "md5", "qimen"]
    signature: Sources
    encoding: Literal["base64", "hex"] = "base64"
    parts: list[str] = []


class Unwrap(_Part, frozen=True):
    """How a body is read. `messages` finds the array of messages, `inner` the field that holds JSON as text."""

    format: Literal["json", "xml"] = "json"
    messages: str | None = None
    inner: str | None = None
    url_encoded: bool = False


class Answer(_Part, frozen=True):
    """What the platform expects. `{code}` and `{detail}` in `failed` are replaced; without it, failures are problem
    documents."""

    type: str = "text/plain"
    ok: str = ""
    failed: str | None = None


class Words(_Part, frozen=True):
    """What a word of the platform means. A word that is not listed is an error, as is a missing one without
    `default`."""

    path: Sources
    words: dict[str, Translation]
    default: str | None = None


class Less(_Part, frozen=True):
    """Units that are subtracted from a line's quantity: its own, or those of the objects at `path` of the message whose
    `key` is the line's `equals`."""

    quantity: Sources
    path: str | None = None
    key: Sources | None = None
    equals: Sources | None = None
    when: list[Words] = []


class LineRule(_Part, frozen=True):
    """How lines are made from the array (or the one object) at `path`. Below zero, `less` makes 0; a line of 0 is left
    out. `leaves`: the units left the warehouse, so that the quantity is negative."""

    path: str
    sku: Sources
    quantity: Sources
    less: list[Less] = []
    leaves: bool = False
    when: list[Words] = []
    warehouse: Sources | None = None
    condition: Words | None = None


class HoldTime(_Part, frozen=True, rename={"from_": "from"}):
    """A hold from one time to another."""

    from_: Sources
    until: Sources


class EventRule(_Part, frozen=True):
    """One event. `id` are natural keys beside the order's; `constants` and `fields` are fields of the event."""

    type: EventType
    occurred_at: Sources
    when: list[Words] = []
    id: list[Sources] = []
    order_id: Sources | None = None
    fields: dict[str, Sources] = {}
    optional: dict[str, Sources] = {}
    constants: dict[str, Any] = {}
    hold: HoldTime | None = None
    lines: LineRule | None = None


class Fetch(_Part, frozen=True):
    """A GET for messages that hold ids only; the answer's JSON becomes `fetched`. `words` are those that need it."""

    url: str
    words: list[str]
    query: dict[str, Sources] = {}
    per_second: Annotated[float, Meta(gt=0, le=PER_SECOND_MAX)] = 5.0
    # Plain HTTP to this machine: for tests, or for a proxy that adds the platform's own signature.
    allow_loopback: bool = False


class Choice(_Part, frozen=True):
    """The words of one group, and the events that each of them causes; none: the word is known and causes nothing."""

    words: list[str]
    events: list[EventRule] = []


class Mapping(_Part, frozen=True):
    """A mapping. `choose` finds the word that selects the events."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    verify: Verify
    choose: Sources
    choices: list[Choice]
    order_id: Sources
    channel: Name | None = None
    zone: str | None = None
    unwrap: Unwrap = Unwrap()
    answer: Answer = Answer()
    # `form:FIELD`: an unsigned form with this number only; else a path: a test call if it is true.
    ping: str | None = None
    fetch: Fetch | None = None
    warehouses: dict[str, Name] = {}

    @property
    def headers(self) -> list[str]:
        """The headers that the mapping reads."""
        return [source.removeprefix("header:") for source in _sources(self) if source.startswith("header:")]

    @property
    def parameters(self) -> list[str]:
        """The parameters of the query that the mapping reads."""
        return [source.removeprefix("query:") for source in _sources(self) if source.startswith("query:")]

    @property
    def secret_variable(self) -> str:
        """The variable that enables it."""
        return f"STOCKTIDE_INTAKE_{self.name.upper().replace('-', '_')}_SECRET"


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Any:
    """The compiled expression. Raises JMESPathError."""
    return jmespath.compile(path)


def as_list(sources: Sources) -> list[str]:
    """Sources as a list."""
    return [sources] if isinstance(sources, str) else sources


# The fields of the types above that hold sources.
_SOURCE_FIELDS = frozenset(
    [
        "signature",
        "path",
        "sku",
        "quantity",
        "key",
        "equals",
        "warehouse",
        "from_",
        "until",
        "occurred_at",
        "id",
        "order_id",
        "choose",
        "messages",
        "inner",
        "parts",
    ]
)
_SOURCE_DICTIONARIES = frozenset({"fields", "optional", "query"})


def _sources(part: Any) -> list[str]:
    """All sources of a part of a mapping."""
    return [source for _, source in placed_sources(part, "")]


def placed_sources(part: Any, place: str) -> Iterator[tuple[str, str]]:
    """The same, each with its place in the file: `choices[0].order_id`."""
    if isinstance(part, (list, tuple)):
        for at, each in enumerate(part):
            yield from placed_sources(each, f"{place}[{at}]")
    if not isinstance(part, Struct):
        return
    for field, name in zip(part.__struct_fields__, part.__struct_encode_fields__, strict=True):
        value, at_field = getattr(part, field), f"{place}.{name}" if place else name
        named = value if field in _SOURCE_DICTIONARIES else {"": value}
        for key, each in named.items():
            at_value = f"{at_field}.{key}" if key else at_field
            if field in _SOURCE_FIELDS or field in _SOURCE_DICTIONARIES:
                yield from _texts(each, at_value)
            yield from placed_sources(each, at_value)


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _texts(each, f"{place}[{at}]")


def is_form_ping(mapping: Mapping, body: bytes) -> bool:
    """Whether `body` is the mapping's unsigned form with a number."""
    if mapping.ping is None or not mapping.ping.startswith("form:"):
        return False
    field = re.escape(mapping.ping.removeprefix("form:").encode())
    return re.fullmatch(field + rb"=\d{1,20}", body) is not None
