"""The words that are stored as codes, and the outcomes that refuse."""

from __future__ import annotations

from hashlib import sha1

from stocktide.tables.ledger.codes import CAUSES, MODES, OUTCOMES, STATES
from stocktide.tables.ledger.outcomes import REFUSALS, REFUSALS_OF_LINES, Outcome

# Words and their digest as of the first version that stored codes.
FIRST = {
    "states": (10, "5b4eac38"),
    "outcomes": (46, "bc955ade"),
    "causes": (14, "9373ee79"),
    "modes": (4, "31a461c8"),
}


def test_the_code_of_a_word_never_changes() -> None:
    found = {}
    for name, words in (("states", STATES), ("outcomes", OUTCOMES), ("causes", CAUSES), ("modes", MODES)):
        count = FIRST.get(name, (0, ""))[0]
        found[name] = count, sha1(" ".join(words[:count]).encode()).hexdigest()[:8]
    assert found == FIRST, "a new word goes to the end; none is removed, renamed or moved"


def test_a_result_has_room_for_the_code_of_every_outcome() -> None:
    assert 2 * len(OUTCOMES) + 1 < 128, "see packed_results in payload.lua"


def test_a_refusal_of_a_line_is_a_refusal() -> None:
    assert REFUSALS_OF_LINES < REFUSALS < set(Outcome)
