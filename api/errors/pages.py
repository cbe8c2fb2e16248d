"""The page of each error code, and the document of all of them.

In: the tables of codes and of outcomes. Out: HTML for `/problems/{code}`, Markdown for `docs/errors.md`, which is
written by `python -m stocktide.api.errors.pages > docs/errors.md`.
"""

from __future__ import annotations

import re
import sys
from html import escape
from http import HTTPStatus

from stocktide.api.errors.codes import CODES, SUBJECTS
from stocktide.api.errors.outcomes import MEANINGS
from stocktide.api.errors.row import ErrorCode

_CODE_SPAN = re.compile(r"`([^`]+)`")
_NO_STATUS = "none: it is in lines of an answer, in dead letters, or in feeds"
_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{code} - Stocktide</title>
</head>
<body>
  <h1><code>{code}</code></h1>
  <dl>
    <dt>Meaning</dt><dd>{meaning}</dd>
    <dt>What to do</dt><dd>{remedy}</dd>
    <dt>Status</dt><dd>{status}</dd>
  </dl>
</body>
</html>
"""
_HEAD = (
    "# Errors\n\n"
    "Every refusal over HTTP is a problem document (RFC 9457) with a stable `code`; its `type` is the path of the"
    " code's page, `/problems/{code}`, on the same API. Dead letters, rejected lines of `/v1/events` and frames of"
    " feeds carry the same codes. This list is made from the table `api/errors/codes.py`.\n"
)
_OUTCOMES_HEAD = """
## Outcomes that are no errors

The `outcome` of an order, a line or a movement that was taken.

| outcome | meaning |
|---|---|
"""


def page_of(code: str) -> str | None:
    """The HTML page of a code; None for an unknown one."""
    row = CODES.get(code)
    if row is None:
        return None
    return _PAGE.format(
        code=escape(row.code), meaning=_html(row.meaning), remedy=_html(row.remedy), status=escape(_statuses(row))
    )


def markdown() -> str:
    """The document of all codes and outcomes."""
    parts = [_HEAD]
    for subject, rows in SUBJECTS.items():
        parts.append(f"\n## {subject}\n\n| code | status | meaning | what to do |\n|---|---|---|---|\n")
        for row in rows:
            status = ", ".join(map(str, row.statuses)) or "-"
            parts.append(f"| `{row.code}` | {status} | {row.meaning} | {row.remedy} |\n")
    parts.append(_OUTCOMES_HEAD)
    parts += [f"| `{outcome}` | {meaning} |\n" for outcome, meaning in MEANINGS.items()]
    return "".join(parts)


def _statuses(row: ErrorCode) -> str:
    return ", ".join(f"{status} {HTTPStatus(status).phrase}" for status in row.statuses) or _NO_STATUS


def _html(text: str) -> str:
    return _CODE_SPAN.sub(r"<code>\1</code>", escape(text))


if __name__ == "__main__":
    sys.stdout.write(markdown())
