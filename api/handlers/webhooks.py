"""Webhooks over HTTP: their definitions, their health, test calls, replays and rotations of the secret.

In: a definition. Out: the definition with the health of its sending; a secret only in the answer of the call that made
it. A channel's key has the webhooks of its channel; others are unknown to it. The rows of `webhooks` and
`webhook-health` are followed, and each call first reads what was written before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from operator import attrgetter
from typing import Annotated, Any, Literal

import aiohttp
import msgspec
from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import Meta, Struct
from msgspec.structs import replace

from stocktide.api import problems
from stocktide.api.access.caller import Caller, caller_of
from stocktide.api.access.scopes import forbidden
from stocktide.api.event_producer import InputEventProducer
from stocktide.api.known_channels import KnownChannels
from stocktide.api.requests import check_channel, check_name, read_message
from stocktide.streams.contract.documents import encode
from stocktide.streams.contract.events import Malformed, Name
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.compacted_view import CompactedView
from stocktide.streams.topics import split_key
from stocktide.streams.webhooks.addresses import URL_LENGTH_MAX, Network, url_trouble
from stocktide.streams.webhooks.calls import call
from stocktide.streams.webhooks.definition import (
    ROTATION_MS,
    EventKind,
    PartitionHealth,
    Webhook,
    decode_health,
    decode_webhook,
    encode_row,
    new_secret,
    new_token,
)

# Each has a connection of each worker.
WEBHOOKS_MAX = 1_000
# That the keys of one channel may make: a storefront, its search index, a few partners.
CHANNEL_WEBHOOKS_MAX = 20
SKUS_MAX = 1_000
BATCH_MAX = 1_000
PER_SECOND_MAX = 1_000.0
WEBHOOK_PATH = "/v1/webhooks/{name}"


class WebhookBody(Struct, frozen=True, kw_only=True):
    """A webhook, whole. `skus` and `prefix` add up; without both, every SKU of the channel is sent. `batch`: items of a
    call; `per_second`: calls."""

    channel: Name
    url: Annotated[str, Meta(min_length=1, max_length=URL_LENGTH_MAX)]
    skus: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=SKUS_MAX)] | None = None
    prefix: Name | None = None
    batch: Annotated[int, Meta(ge=1, le=BATCH_MAX)] = 100
    per_second: Annotated[float, Meta(gt=0, le=PER_SECOND_MAX)] = 10
    events: Annotated[tuple[EventKind, ...], Meta(min_length=1, max_length=2)] = ("stock",)


class WebhookAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A webhook and how its sending goes. `lag_seconds`: how long the oldest of `pending` items waits; `failures` in a
    row; `open`: the circuit breaker makes no call for some seconds. `secret` is shown when it was made, only then."""

    name: str
    channel: str
    url: str
    skus: tuple[str, ...] | None
    prefix: str | None
    batch: int
    per_second: float
    events: tuple[EventKind, ...]
    state: Literal["new", "ok", "failing", "disabled"]
    last_success: str | None
    lag_seconds: float
    pending: int
    failures: int
    failing_since: str | None
    open: bool
    error: str | None
    rotating_until: str | None
    secret: str | None = None


class WebhookPage(Struct, frozen=True):
    """All webhooks by name."""

    items: list[WebhookAnswer]


class TestAnswer(Struct, frozen=True):
    """What the endpoint answered to a test call; `status` is 0 if it did not."""

    id: str
    ok: bool
    status: int
    error: str


_BODY = msgspec.json.Decoder(WebhookBody)


class WebhookHandlers:
    """The handlers of `/v1/webhooks`. Topics are full names; `session` refuses addresses that may not be called."""

    def __init__(
        self,
        view: CompactedView,
        producer: InputEventProducer,
        topic: str,
        health_topic: str,
        allowed: tuple[Network, ...],
        session: aiohttp.ClientSession,
        seconds_max: float,
        known: KnownChannels,
    ) -> None:
        self._view = view
        self._producer = producer
        self._topic = topic
        self._health_topic = health_topic
        self._allowed = allowed
        self._session = session
        self._seconds_max = seconds_max
        self._known = known
        # New ones that the view may not have read yet, with their channels: calls at the same time count each other.
        self._making: dict[str, str] = {}

    async def page(self, request: web.Request) -> web.Response:
        """`GET /v1/webhooks`"""
        await self._catch_up()
        found = sorted(self._visible(caller_of(request)), key=attrgetter("name"))
        return problems.json_response(WebhookPage([self._answer(webhook) for webhook in found]))

    async def answers(self) -> list[WebhookAnswer]:
        """All webhooks and how they go. Raises TimeoutError, ConnectionError."""
        await self._catch_up()
        return [self._answer(decode_webhook(row)) for row in self._view.rows(self._topic).values()]

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/webhooks/{name}`"""
        found = await self._find(request)
        return found if isinstance(found, web.Response) else problems.json_response(self._answer(found))

    async def put(self, request: web.Request) -> web.Response:
        """`PUT`: 201 with the secret, or 200 if it replaces a definition, whose secret stays. A disabled webhook is
        enabled; of another channel, everything is sent."""
        name = request.match_info["name"]
        body = await read_message(request, _BODY)
        if isinstance(body, web.Response):
            return body
        if (invalid := check_name("name", name) or self._check(body)) is not None:
            return invalid
        caller = caller_of(request)
        await self._catch_up()
        old = self._stored(name)
        if old is not None and not _may_see(caller, old):
            return _unknown()
        if caller.channel not in (None, body.channel):
            return forbidden("The key is for another channel.")
        if old is None and (refused := self._too_many(caller)) is not None:
            return refused
        fields: dict[str, Any] = {**msgspec.structs.asdict(body), "revision": new_token()}
        fields["with_warehouses"] = caller.channel is None
        fields["events"] = tuple(sorted(set(body.events)))
        continued = old if old is not None and old.channel == body.channel else None
        if continued is None or "orders" not in continued.events:
            fields["orders_since_ms"] = now_ms()
        if old is not None:
            webhook = replace(old, **fields, epoch=continued.epoch if continued else _first_epoch())
            await self._write(webhook)
            return problems.json_response(self._answer(webhook))
        webhook = Webhook(name=name, secret=new_secret(), epoch=_first_epoch(), **fields)
        self._making[name] = webhook.channel
        try:
            await self._write(webhook)
            with contextlib.suppress(TimeoutError, ConnectionError):
                await self._catch_up()
        finally:
            self._making.pop(name, None)
        headers = problems.location(WEBHOOK_PATH, name=name)
        return problems.json_response(replace(self._answer(webhook), secret=webhook.secret), 201, headers)

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE`"""
        found = await self._find(request)
        if isinstance(found, web.Response):
            return found
        await self._produce(self._topic, [(found.name, None)])
        keys = [key for key in self._view.rows(self._health_topic) if split_key(key)[0] == found.name]
        if keys:
            await self._produce(self._health_topic, [(key, None) for key in keys])
        return web.Response(status=204)

    async def test(self, request: web.Request) -> web.Response:
        """`POST …/test`: one signed call without items, made at once, also of a disabled webhook."""
        found = await self._find(request)
        if isinstance(found, web.Response):
            return found
        message_id = f"msg_{new_token()}"
        body = encode({"type": "webhook.test", "channel": found.channel, "items": []})
        result = await call(self._session, found, message_id, body)
        return problems.json_response(TestAnswer(message_id, result.ok, result.status, result.error))

    async def replay(self, request: web.Request) -> web.Response:
        """`POST …/replay`: the present state of every SKU is sent once more, with new ids."""
        found = await self._find(request)
        if isinstance(found, web.Response):
            return found
        lineage, _, number = found.epoch.partition("-")
        webhook = replace(found, epoch=f"{lineage}-{int(number) + 1}")
        await self._write(webhook)
        return problems.json_response(self._answer(webhook), 202)

    async def rotate(self, request: web.Request) -> web.Response:
        """`POST …/rotate`: a new secret; the present one signs beside it until `rotating_until`."""
        found = await self._find(request)
        if isinstance(found, web.Response):
            return found
        webhook = replace(found, secret=new_secret(), old_secret=found.secret, rotated_ms=now_ms())
        await self._write(webhook)
        return problems.json_response(replace(self._answer(webhook), secret=webhook.secret))

    def _check(self, body: WebhookBody) -> web.Response | None:
        if (trouble := url_trouble(body.url, self._allowed)) is not None:
            return problems.from_malformed(Malformed("url_not_allowed", trouble, "url"))
        named = [("skus", sku) for sku in body.skus or ()] + [("prefix", body.prefix)] * (body.prefix is not None)
        invalid = (check_name(field, value or "") for field, value in named)
        return check_channel(body.channel) or next((each for each in invalid if each is not None), None)

    async def _catch_up(self) -> None:
        try:
            await self._view.catch_up(self._seconds_max)
        except KafkaError as error:
            raise ConnectionError("the webhooks cannot be read") from error

    async def _find(self, request: web.Request) -> Webhook | web.Response:
        await self._catch_up()
        found = self._stored(request.match_info["name"])
        return found if found is not None and _may_see(caller_of(request), found) else _unknown()

    def _visible(self, caller: Caller) -> list[Webhook]:
        stored = map(decode_webhook, self._view.rows(self._topic).values())
        return [webhook for webhook in stored if _may_see(caller, webhook)]

    def _too_many(self, caller: Caller) -> web.Response | None:
        """The problem if there is no room for another webhook, of all or of the caller's channel."""
        rows = self._view.rows(self._topic)
        making = [channel for name, channel in self._making.items() if name not in rows]
        limit = WEBHOOKS_MAX
        if len(rows) + len(making) < limit:
            limit = CHANNEL_WEBHOOKS_MAX
            own = len(self._visible(caller)) + making.count(caller.channel or "")
            if caller.channel is None or own < limit:
                return None
        return problems.problem_response(409, "too_many_webhooks", f"There are {limit} webhooks already.")

    def _stored(self, name: str) -> Webhook | None:
        row = self._view.rows(self._topic).get(name)
        return None if row is None else decode_webhook(row)

    async def _write(self, webhook: Webhook) -> None:
        # Without it, nothing is published for a channel that nothing has named yet.
        await self._known.ensure(webhook.channel)
        await self._produce(self._topic, [(webhook.name, encode_row(webhook))])

    async def _produce(self, topic: str, rows: list[tuple[str, bytes | None]]) -> None:
        deadline = asyncio.get_running_loop().time() + self._seconds_max
        await self._producer.write(topic, [(key.encode(), value) for key, value in rows], deadline)

    def _answer(self, webhook: Webhook) -> WebhookAnswer:
        found = (
            decode_health(row)
            for key, row in self._view.rows(self._health_topic).items()
            if split_key(key)[0] == webhook.name
        )
        return describe(webhook, [row for row in found if row.revision == webhook.revision], now_ms())


def _may_see(caller: Caller, webhook: Webhook) -> bool:
    return caller.channel in (None, webhook.channel)


def _unknown() -> web.Response:
    return problems.not_found("unknown_webhook", "There is no webhook of this name.")


def describe(webhook: Webhook, rows: list[PartitionHealth], now: int) -> WebhookAnswer:
    """The health page's item: of several partitions, the worst."""
    states = {row.state for row in rows}
    state = next((each for each in ("disabled", "failing", "ok") if each in states), "new")
    pending_since = min((row.pending_since_ms for row in rows if row.pending), default=now)
    rotating_until = webhook.rotated_ms + ROTATION_MS
    failing_since = min((row.failing_since_ms for row in rows if row.failing_since_ms), default=0)
    return WebhookAnswer(
        name=webhook.name,
        channel=webhook.channel,
        url=webhook.url,
        skus=webhook.skus,
        prefix=webhook.prefix,
        batch=webhook.batch,
        per_second=webhook.per_second,
        events=webhook.events,
        state=state,  # type: ignore[arg-type]
        last_success=_time(max((row.last_success_ms for row in rows), default=0)),
        lag_seconds=max(0, now - pending_since) / 1000,
        pending=sum(row.pending for row in rows),
        failures=max((row.failures for row in rows), default=0),
        failing_since=_time(failing_since),
        open=any(row.open for row in rows),
        error=next((row.error for row in rows if row.error), None),
        rotating_until=_time(rotating_until) if webhook.old_secret and now < rotating_until else None,
    )


def _time(at_ms: int) -> str | None:
    return rfc3339(at_ms) if at_ms else None


def _first_epoch() -> str:
    return f"{new_token()}-0"
