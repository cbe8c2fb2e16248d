"""How the context of a trace travels, and that nothing of it is there where no endpoint is set."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanContext

from stocktide.errors import CommandError
from stocktide.streams.spans import (
    LINKS_MAX,
    Tracing,
    context_of_headers,
    context_of_token,
    current_context,
    current_headers,
    no_context,
    token_of,
)
from stocktide.streams.tracing import is_traced, make_tracing
from stocktide.tables.ledger.commands import Origin, Pay
from tests.harness.otlp import new_traceparent

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# The modules of worker and API. redis-py imports the metrics of OpenTelemetry by itself where they are installed.
IMPORT_ALL = """
import sys, stocktide.api_server, stocktide.worker
ours, theirs = (".spans", ".traced", ".traced_submission"), ("opentelemetry.sdk.trace", "opentelemetry.exporter")
sys.exit(any(name.endswith(ours) or name.startswith(theirs) for name in sys.modules))
"""


class Recorded:
    """Tracing whose sampler follows the parent, and the spans that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider)

    def named(self, name: str) -> ReadableSpan:
        return next(span for span in self.exporter.get_finished_spans() if span.name == name)


def new_context() -> SpanContext:
    found = context_of_headers([("traceparent", new_traceparent()[0].encode())])
    assert found is not None
    return found


def test_without_an_endpoint_nothing_that_makes_spans_is_imported() -> None:
    environ = {"PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], env=environ, timeout=120, check=False)
    assert done.returncode == 0
    assert make_tracing("api", {}) is None


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({ENDPOINT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({ENDPOINT: " "}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_say_whether_traces_are_exported(environ: Mapping[str, str], asked: bool) -> None:
    assert is_traced(environ) is asked


def test_another_protocol_and_missing_packages_are_errors_that_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="grpc: only http/protobuf"):
        make_tracing("api", {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    monkeypatch.setitem(sys.modules, "stocktide.streams.spans", None)
    with pytest.raises(CommandError, match=r"pip install 'stocktide\[otel\]'"):
        make_tracing("api", {ENDPOINT: "http://c:4318"})


def test_a_batch_continues_its_first_cause_and_links_the_others() -> None:
    recorded, causes = Recorded(), [new_context() for _ in range(3)]
    with recorded.tracing.span("batch", [causes[0], *causes]) as span:
        assert span is not None
    batch = recorded.named("batch")
    assert batch.parent is not None and batch.parent.span_id == causes[0].span_id
    assert [link.context.span_id for link in batch.links] == [cause.span_id for cause in causes[1:]]
    with recorded.tracing.span("large", (new_context() for _ in range(2 * LINKS_MAX))):
        pass
    assert len(recorded.named("large").links) == LINKS_MAX


def test_work_without_a_sampled_cause_has_no_span_no_headers_and_no_token() -> None:
    recorded, unsampled = Recorded(), new_traceparent()[0][:-1] + "0"
    for headers in (
        None,
        [],
        [("traceparent", unsampled.encode())],
        [("traceparent", b"\xff")],
        [("traceparent", None)],
    ):
        assert context_of_headers(headers) is None
    with recorded.tracing.span("nothing", []) as span:
        assert span is None and token_of(span) is None and current_headers() == []
    assert recorded.exporter.get_finished_spans() == ()


def test_a_token_and_the_headers_of_a_record_carry_the_context_of_a_span() -> None:
    recorded = Recorded()
    with recorded.tracing.span("batch", [new_context()]) as span:
        token = token_of(span)
        assert token is not None and len(token) == 48
        for found in (context_of_token(token), context_of_headers(current_headers())):
            assert found is not None and span is not None
            own = span.get_span_context()
            assert (found.trace_id, found.span_id) == (own.trace_id, own.span_id)
        with no_context():
            assert current_context() is None and current_headers() == []
    for other in ("0123456789abcdef", "", "x" * 48, "0" * 48):
        assert context_of_token(other) is None


def test_a_command_is_known_by_the_place_of_its_record_or_by_itself() -> None:
    tracing, causes = Recorded().tracing, [new_context(), new_context()]
    by_kafka = Pay(id="p", order_id="o", fingerprint="", origin=Origin("orders", 1, 7, ""))
    by_http = Pay(id="p", order_id="o", fingerprint="")
    known = {("orders", 1, 7): causes[0], id(by_http): causes[1], "untraced": None}
    with tracing.causing(known):
        assert tracing.causes_of([by_kafka, by_http]) == causes
        assert tracing.causes_of([Pay(id="p", order_id="o", fingerprint="")]) == []
    assert tracing.causes_of([by_kafka, by_http]) == []
