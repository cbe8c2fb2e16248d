"""Spans of one process, and how their context travels: in headers of HTTP and of Kafka's records, in a batch's token.

In: contexts of what a piece of work was caused by. Out: a span for the work, exported by OTLP over HTTP. The work of a
batch has many causes: the first is its parent, so that a sampler follows it, and the others are links. Work without a
sampled cause has no span.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

# More are left out: the usual limit of a span's links (OTEL_SPAN_LINK_COUNT_LIMIT).
LINKS_MAX = 128
# What is still to be exported when the process stops; its supervisor gives it 15 s for everything.
STOP_SECONDS_MAX = 3.0
_TOKEN_DIGITS = 48

RecordHeaders = Sequence[tuple[str, bytes | None]]
_PROPAGATOR = TraceContextTextMapPropagator()


def start_tracing(service: str) -> Tracing:
    """Tracing with the exporter, the sampler and the limits of the standard variables."""
    attributes = {"service.version": version("stocktide"), "service.instance.id": f"{service}-{os.getpid()}"}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes["service.name"] = f"stocktide-{service}"
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


class Tracing:
    """Makes spans. Also knows what caused commands that wait for the ledger."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("stocktide", version("stocktide"))
        self._causes: dict[Hashable, SpanContext] = {}

    async def stop(self) -> None:
        """Export what is there, within a bounded time: a collector that hangs stops nothing."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, STOP_SECONDS_MAX)

    @contextmanager
    def span(
        self,
        name: str,
        causes: Iterable[SpanContext],
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Iterator[Span | None]:
        """A span that is the current one while the block runs; None without a cause."""
        parent, links = _parent_and_links(causes)
        if parent is None:
            yield None
            return
        with self._tracer.start_as_current_span(name, parent, kind, attributes, links) as span:
            yield span

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str], attributes: Mapping[str, str]) -> Iterator[Span]:
        """The span of a request of HTTP, whose headers may carry a context; it begins a trace otherwise."""
        parent = _PROPAGATOR.extract(headers, Context())
        with self._tracer.start_as_current_span(name, parent, SpanKind.SERVER, attributes) as span:
            yield span

    def begin(self, name: str, cause: SpanContext, kind: SpanKind) -> Span:
        """A span that its owner ends."""
        return self._tracer.start_span(name, _parent_and_links([cause])[0], kind)

    @contextmanager
    def causing(self, causes: Mapping[Hashable, SpanContext | None]) -> Iterator[None]:
        """Know the causes of commands (see `key_of`) while the block runs."""
        known = {key: cause for key, cause in causes.items() if cause is not None}
        self._causes |= known
        try:
            yield
        finally:
            for key in known:
                self._causes.pop(key, None)

    def causes_of(self, commands: Iterable[object]) -> list[SpanContext]:
        """The causes of commands; the current span where none is known."""
        known = self._causes
        found = [cause for command in commands if (cause := known.get(key_of(command))) is not None] if known else []
        current = None if found else current_context()
        return found if current is None else [current]


def key_of(command: object) -> Hashable:
    """By what a command's cause is known: its record's place, or itself where it came by HTTP."""
    origin = getattr(command, "origin", None)
    return id(command) if origin is None else (origin.topic, origin.partition, origin.offset)


@contextmanager
def no_context() -> Iterator[None]:
    """Let no span be the current one: a task inherits that of whoever made it."""
    token = contexts.attach(Context())
    try:
        yield
    finally:
        contexts.detach(token)


def current_context() -> SpanContext | None:
    """The context of the current span, if it is sampled."""
    return _sampled(get_current_span().get_span_context())


def current_headers() -> list[tuple[str, bytes]]:
    """The headers of records that are written during the current span."""
    if current_context() is None:
        return []
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return [(name, value.encode()) for name, value in carrier.items()]


def context_of_headers(headers: RecordHeaders | None) -> SpanContext | None:
    """The sampled context in the headers of a record, or None."""
    if not headers:
        return None
    carrier = {name: value.decode(errors="replace") for name, value in headers if value is not None}
    return _sampled(get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context())


def token_of(span: Span | None) -> str | None:
    """A token that carries the context of a sampled span through Redis and the journal; None without one."""
    context = None if span is None else _sampled(span.get_span_context())
    return None if context is None else f"{context.trace_id:032x}{context.span_id:016x}"


def context_of_token(token: str) -> SpanContext | None:
    """The inverse; None for the tokens of batches that are not traced."""
    if len(token) != _TOKEN_DIGITS:
        return None
    try:
        trace, span = int(token[:32], 16), int(token[32:], 16)
    except ValueError:
        return None
    return _sampled(SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))


def _sampled(context: SpanContext) -> SpanContext | None:
    return context if context.is_valid and context.trace_flags.sampled else None


def _parent_and_links(causes: Iterable[SpanContext]) -> tuple[Context | None, list[Link]]:
    distinct = list({(cause.trace_id, cause.span_id): cause for cause in causes}.values())
    if not distinct:
        return None, []
    parent = set_span_in_context(NonRecordingSpan(distinct[0]), Context())
    return parent, [Link(cause) for cause in distinct[1 : LINKS_MAX + 1]]
