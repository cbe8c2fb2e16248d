"""What the product names and the board shows has a name on the board, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stocktide.api.errors.codes import SUBJECTS
from stocktide.api.health.judgement import OK, STALLED, UNKNOWN, WAITING, judge_parts
from stocktide.streams.contract.alert_types import ALERT_TYPES, Language
from stocktide.tables.ledger.codes import CAUSES
from tests.unit.test_system_health import WELL

WORDS = Path(__file__).parents[2] / "api/board/words"
# Codes that the client of the board handles itself, by a new connection.
NOT_SHOWN = {"Feeds"}
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def texts_of(page: str, language: Language, prefix: str = "") -> dict[str, str]:
    """The texts of a page whose keys begin with `prefix`, by the rest of the key."""
    (body,) = re.findall(
        rf"^export const {language} = \{{\n(.*?)^\}};", (WORDS / f"{page}.js").read_text(), re.M | re.S
    )
    return dict(re.findall(rf'^  {prefix}(\w+): "(.*)",$', body, re.M))


@pytest.mark.parametrize("language", LANGUAGES)
def test_alerts_are_named_as_in_messages(language: Language) -> None:
    expected = {name: about.name(language) for name, about in ALERT_TYPES.items()}
    assert texts_of("alerts", language, "type_") == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_cause_of_a_change_is_named(language: Language) -> None:
    assert texts_of("causes", language).keys() == set(CAUSES)


def test_every_code_that_the_board_may_meet_has_its_meaning_in_both_languages() -> None:
    expected = {str(row.code): row.meaning for name, rows in SUBJECTS.items() if name not in NOT_SHOWN for row in rows}
    assert texts_of("problems", "en") == expected
    chinese = texts_of("problems", "zh")
    assert chinese.keys() == expected.keys()
    assert [code for code, text in chinese.items() if not re.search("[一-鿿]", text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_part_of_health_and_every_state_has_words(language: Language) -> None:
    parts = {part.part for part in judge_parts(WELL)}
    states, not_well = {OK, WAITING, STALLED, UNKNOWN}, {WAITING, STALLED, UNKNOWN}
    assert texts_of("health", language, "part_").keys() == parts
    assert texts_of("health", language, "state_").keys() == states
    meanings = texts_of("health", language, "meaning_").keys()
    known = {f"{part}_{state}" for part in (*parts, "process") for state in states}
    assert not_well <= meanings <= not_well | known
