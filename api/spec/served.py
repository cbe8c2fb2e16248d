"""The calls that answer with the documents, beside all calls that they describe.

In: the table of routes. Out: the table with these calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from stocktide.api.problems import JSON_TYPE
from stocktide.api.routes.route import Handler, Route
from stocktide.api.spec.asyncapi import make_asyncapi_document
from stocktide.api.spec.openapi import make_openapi_document

# A page of another origin may show the documents: they hold nothing but what the source says.
_HEADERS = {"Content-Type": JSON_TYPE}


def with_documents(routes: Sequence[Route], version: str) -> tuple[Route, ...]:
    """All calls; `version` is the product's."""
    texts: dict[str, bytes] = {}

    def serve(path: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(body=texts[path], headers=_HEADERS)

        return answer

    paths = {
        "/openapi.json": "Every call of the API, as OpenAPI 3.1",
        "/asyncapi.json": "Every topic, feed and webhook, as AsyncAPI 3.0",
    }
    described = (
        *routes,
        *(Route("GET", path, serve(path), summary, answers={200: dict}) for path, summary in paths.items()),
    )
    texts["/openapi.json"] = make_openapi_document(described, version)
    texts["/asyncapi.json"] = make_asyncapi_document(version)
    return described
