"""The OpenAPI document of this source, without a running API: `python -m tests.harness.document > openapi.json`."""

from __future__ import annotations

import sys
from typing import cast
from unittest.mock import MagicMock

from stocktide.api.routes.route import Handlers
from stocktide.api.routes.table import make_routes
from stocktide.api.spec.openapi import make_openapi_document
from stocktide.api.spec.served import with_documents


def openapi_document() -> bytes:
    """As `/openapi.json`."""
    # The handlers are not called: the table of routes needs them as objects.
    return make_openapi_document(with_documents(make_routes(cast(Handlers, MagicMock())), "1"), "1")


if __name__ == "__main__":
    sys.stdout.buffer.write(openapi_document())
