"""Takes webhooks of platforms: `POST /v1/intake/{name}`.

In: a signed body. Out: the raw body in the topic `intake`, and the answer that the platform expects. Nothing is mapped
here, so that the answer comes within a second whatever the body holds. No key is needed: the signature is the proof.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from xml.sax.saxutils import escape

from aiohttp import web
from msgspec import structs

from stocktide.api import problems
from stocktide.api.event_producer import InputEventProducer, ProduceFailed
from stocktide.api.requests import BodyRefused, receive_body
from stocktide.streams.contract.events import BODY_BYTES_MAX
from stocktide.streams.contract.times import now_ms
from stocktide.streams.mapping import mapping_file
from stocktide.streams.mapping.envelope import Envelope, encode_envelope
from stocktide.streams.mapping.mapping_file import compile_path, is_form_ping
from stocktide.streams.mapping.unwrap import Unreadable, read_json
from stocktide.streams.mapping.verify import EnabledMapping, has_signature, is_signed
from stocktide.streams.topics import INTAKE

# The first second that Shopify grants to the connection, with a reserve for the network.
ANSWER_SECONDS_MAX = 0.9
# Of a header that a mapping reads: a signature or a topic has 100 at most.
HEADER_LENGTH_MAX = 1024
# Of the parameters that a mapping reads, beside the body in one record.
PARAMETER_LENGTH_MAX = 1024


class IntakeHandler:
    """The handler of `POST /v1/intake/{name}`. `enabled` are the mappings that have a secret, by name."""

    def __init__(self, event_producer: InputEventProducer, app_id: str, enabled: Mapping[str, EnabledMapping]) -> None:
        self._event_producer = event_producer
        self._topic = INTAKE.full_name(app_id)
        self._enabled = enabled

    async def post(self, request: web.Request) -> web.Response:
        """Check, store, answer."""
        enabled = self._enabled.get(request.match_info["name"])
        if enabled is None:
            return problems.not_found("unknown_intake", "There is no mapping of this name that has a secret.")
        mapping = enabled.mapping
        body = await receive_body(request, BODY_BYTES_MAX)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            # No platform packs its webhooks, and a signature is over the bytes as they were sent, which are lost here.
            return _failure(mapping, 415, "unsupported_media_type", "a webhook is taken without a Content-Encoding")
        if isinstance(body, BodyRefused):
            refused = _failure(mapping, body.status, body.code, body.detail)
            if body.status == 408:
                refused.force_close()
            return refused
        envelope = _envelope(mapping, request, body)
        if not is_signed(mapping, enabled.secrets, envelope):
            if _is_ping(mapping, body) and not has_signature(mapping, envelope):
                return _success(mapping)
            return _failure(mapping, 401, "bad_signature", "the signature is missing or wrong")
        query = {name: envelope.query[name] for name in mapping.parameters if name in envelope.query}
        stored = structs.replace(envelope, query=query)
        if any(len(value) > PARAMETER_LENGTH_MAX for value in query.values()):
            return _failure(mapping, 414, "uri_too_long", "a parameter of the query is too long")
        try:
            deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS_MAX
            await self._event_producer.write(self._topic, [(mapping.name.encode(), encode_envelope(stored))], deadline)
        except ProduceFailed:
            return _failure(mapping, 503, "unavailable", "it was not stored; sending the same again is safe")
        return _success(mapping)


def _envelope(mapping: mapping_file.Mapping, request: web.Request, body: bytes) -> Envelope:
    headers = {
        name.lower(): request.headers[name].encode(errors="replace").decode()[:HEADER_LENGTH_MAX]
        for name in mapping.headers
        if name in request.headers
    }
    # Unlike in Stocktide's own calls, a `+` is a blank: the time in Qimen's `timestamp` has one.
    return Envelope(mapping.name, now_ms(), headers, dict(request.query), body)


def _is_ping(mapping: mapping_file.Mapping, body: bytes) -> bool:
    """Whether it is a test call of the platform, which causes nothing and needs no signature. One that is signed is
    taken as any other: the signature does not cover what declares it a test."""
    if mapping.ping is None or mapping.ping.startswith("form:"):
        return is_form_ping(mapping, body)
    try:
        return compile_path(mapping.ping).search(read_json(body)) is True
    except Unreadable:
        return False


def _success(mapping: mapping_file.Mapping) -> web.Response:
    return web.Response(body=mapping.answer.ok.encode(), headers={"Content-Type": mapping.answer.type})


def _failure(mapping: mapping_file.Mapping, status: int, code: str, detail: str) -> web.Response:
    if mapping.answer.failed is None:
        sentence = f"{detail[0].upper()}{detail[1:].removesuffix('.')}."
        headers = {"Retry-After": str(problems.RETRY_AFTER_SECONDS)} if status == 503 else None
        return problems.problem_response(status, code, sentence, headers)
    text = mapping.answer.failed.replace("{code}", escape(code)).replace("{detail}", escape(detail))
    return web.Response(body=text.encode(), status=status, headers={"Content-Type": mapping.answer.type})
