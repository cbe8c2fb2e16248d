"""What the product names and the board shows has a name on the board, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stocktide.streams.contract.alert_types import ALERT_TYPES, Language
from stocktide.tables.ledger.codes import CAUSES

WORDS = Path(__file__).parents[2] / "api/board/words"
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
