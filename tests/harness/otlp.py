"""A collector of traces: a real OTLP receiver on loopback that decodes what it gets.

In: exports over HTTP. Out: the spans, and which of them belong together.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.harness.eventually import eventually

PROTOBUF = "application/x-protobuf"
SPAN_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span; `causes` are its parent and its links, and ids are hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    causes: frozenset[str]
    attributes: dict[str, str]


@dataclass
class Collector:
    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a process that sends here the traces that a request begins, and no other."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_TRACES_SAMPLER": "parentbased_always_off",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }

    async def handle(self, request: web.Request) -> web.Response:
        assert request.content_type == PROTOBUF, request.content_type
        export = ExportTraceServiceRequest.FromString(await request.read())
        for resource in export.resource_spans:
            known = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    causes = {span.parent_span_id.hex(), *(link.span_id.hex() for link in span.links)} - {""}
                    attributes = {
                        each.key: each.value.string_value or str(each.value.int_value) for each in span.attributes
                    }
                    ids = (span.trace_id.hex(), span.span_id.hex())
                    self.spans.append(
                        ReceivedSpan(known["service.name"], span.name, *ids, frozenset(causes), attributes)
                    )
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type=PROTOBUF)

    def caused_by(self, span_id: str) -> list[ReceivedSpan]:
        """The spans that a span has caused, directly or by others."""
        reached, found = {span_id}, list[ReceivedSpan]()
        while more := [span for span in self.spans if span.id not in reached and span.causes & reached]:
            found += more
            reached |= {span.id for span in more}
        return found

    async def until(self, holds: Callable[[], bool]) -> None:
        await eventually(holds, SPAN_SECONDS_MAX, lambda: "\n".join(map(str, self.spans[-50:])))


def new_traceparent() -> tuple[str, str]:
    """The header of a sampled trace that a client has begun, and the id of the client's span."""
    span = secrets.token_hex(8)
    return f"00-{secrets.token_hex(16)}-{span}-01", span


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/traces", collector.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()
