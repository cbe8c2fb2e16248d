"""The table of error codes, against what the code can answer, its pages and its document."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from stocktide.api.errors.codes import CODES, SUBJECTS
from stocktide.api.errors.outcomes import MEANINGS
from stocktide.api.errors.pages import markdown, page_of
from stocktide.api.feeds.close_codes import CloseCode
from stocktide.api.problems import CODE_OF_STATUS
from stocktide.tables.ledger.outcomes import REFUSALS, Outcome

ROOT = Path(__file__).parents[2]
# Where the code is among the arguments of what makes an error.
PLACE_OF_CODE = {
    "problem_response": 1,
    "_raw_problem": 2,
    "_failure": 2,
    "BodyRefused": 1,
    "not_found": 0,
    "service_unavailable": 0,
    "Malformed": 0,
    "Rejection": 0,
    "reject": 1,
    "dead_letter_of_record": 0,
}
PLACE_OF_STATUS = {"problem_response": 0, "_raw_problem": 0, "_failure": 1, "BodyRefused": 0}
STATUS = {"not_found": 404, "service_unavailable": 503}


def calls() -> Iterator[tuple[str, int | None, str]]:
    """Every literal code in a call that makes an error: where, its status if it is literal too, the code."""
    for folder in ("api", "agents", "streams", "tables"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and (name := name_of(node.func)) in PLACE_OF_CODE:
                    code = literal(node, PLACE_OF_CODE[name])
                    status = STATUS.get(name) or literal(node, PLACE_OF_STATUS.get(name, 99))
                    if isinstance(code, str):
                        yield f"{path.name}:{node.lineno}", status if isinstance(status, int) else None, code


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def literal(call: ast.Call, place: int) -> object:
    """The literal or the outcome at a place."""
    if place >= len(call.args):
        return None
    argument = call.args[place]
    if isinstance(argument, ast.Attribute) and name_of(argument.value) == "Outcome":
        return str(Outcome[argument.attr])
    return argument.value if isinstance(argument, ast.Constant) else None


def test_every_code_that_the_code_names_is_in_the_table_with_its_status() -> None:
    found = list(calls())
    assert len(found) > 60
    missing = [(where, status, code) for where, status, code in found if code not in CODES]
    assert not missing
    assert not [each for each in found if each[1] is not None and each[1] not in CODES[each[2]].statuses]


def test_a_code_that_is_not_in_the_table_is_found() -> None:
    call = ast.parse("problems.problem_response(418, 'teapot', 'x')").body[0]
    assert isinstance(call, ast.Expr) and isinstance(call.value, ast.Call)
    assert literal(call.value, PLACE_OF_CODE[name_of(call.value.func)]) == "teapot"


def test_every_outcome_and_every_close_code_is_explained() -> None:
    assert set(CODES) >= REFUSALS
    assert {code.name.lower() for code in CloseCode} <= set(CODES)
    assert set(MEANINGS) == set(Outcome) - REFUSALS


def test_the_codes_of_errors_of_aiohttp_are_in_the_table() -> None:
    assert not [status for status, code in CODE_OF_STATUS.items() if status not in CODES[code].statuses]


def test_a_code_has_one_row() -> None:
    assert sum(map(len, SUBJECTS.values())) == len(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_page_says_what_a_code_means_and_what_to_do(code: str) -> None:
    page = page_of(code)
    assert page is not None
    assert f"<h1><code>{code}</code></h1>" in page
    assert "`" not in page
    assert CODES[code].meaning.endswith(".") and CODES[code].remedy.endswith(".")


def test_an_unknown_code_has_no_page() -> None:
    assert page_of("teapot") is None
    assert page_of("<script>") is None


def test_the_document_of_errors_is_current() -> None:
    command = "python -m stocktide.api.errors.pages > docs/errors.md"
    assert (ROOT / "docs" / "errors.md").read_text() == markdown(), f"write it anew: {command}"
