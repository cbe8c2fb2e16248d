"""The pages of the error codes.

In: the table of codes, and the calls. Out: a page for each code; the list of all is `docs/errors.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from docs.site.contract.calls import Call, HttpContract
from stocktide.api.errors.codes import CODES
from stocktide.api.errors.row import ErrorCode

# A code of more calls than these is one of almost all calls, and its page gives their number.
_CALLS_LISTED_MAX = 25


def error_pages(contract: HttpContract) -> Iterator[tuple[str, str]]:
    """Each page below `errors/` with its text."""
    calls: dict[str, list[Call]] = {}
    for call in contract.calls:
        for code in sorted({code for codes in contract.codes_of(call).values() for code in codes}):
            calls.setdefault(code, []).append(call)
    for code, row in CODES.items():
        yield f"{code}.md", _page(row, calls.get(code, []), len(contract.calls))


def with_links(errors: str) -> str:
    """The list of all codes, each with a link to its page."""
    for code in CODES:
        errors = errors.replace(f"\n| `{code}` |", f"\n| [`{code}`](errors/{code}.md) |")
    return errors


def _page(row: ErrorCode, calls: list[Call], number: int) -> str:
    statuses = ", ".join(f"{status} {HTTPStatus(status).phrase}" for status in row.statuses)
    text = f"# {row.code}\n\n**Meaning.** {row.meaning}\n\n**What to do.** {row.remedy}\n\n"
    text += f"**Status.** {statuses or 'None: the code is in lines of an answer, in dead letters, or in feeds.'}\n\n"
    if len(calls) > _CALLS_LISTED_MAX:
        text += f"**Calls.** {len(calls)} of the {number} [calls](../http/index.md) can answer with it.\n\n"
    elif calls:
        links = "".join(f"- [`{call.title}`](../http/{call.group}.md#{call.anchor})\n" for call in calls)
        text += f"**Calls** that can answer with it:\n\n{links}\n"
    return text + "All codes are in [errors](../errors.md).\n"
