"""Whether this process sends traces; nothing of OpenTelemetry is imported where it does not (decision 0152).

In: the standard variables of OpenTelemetry. Out: `stocktide.streams.spans.Tracing`, or None.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stocktide.errors import CommandError

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing

PROTOCOL = "http/protobuf"


def make_tracing(service: str, environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """Tracing for the process `service` if an OTLP endpoint is set, else None. Raises CommandError."""
    if not is_traced(environ):
        return None
    protocol = _of_traces("PROTOCOL", environ) or PROTOCOL
    if protocol != PROTOCOL:
        raise CommandError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: only {PROTOCOL} is there, leave it out")
    try:
        from stocktide.streams.spans import start_tracing
    except ImportError as error:
        raise CommandError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and traces need more packages ({error.name} is not installed): "
            "`pip install 'stocktide[otel]'`, or leave the variable out"
        ) from error
    return start_tracing(service)


def is_traced(environ: Mapping[str, str]) -> bool:
    """Whether the variables ask for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return bool(_of_traces("ENDPOINT", environ))


def _of_traces(name: str, environ: Mapping[str, str]) -> str:
    specific = environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
    return specific or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()
