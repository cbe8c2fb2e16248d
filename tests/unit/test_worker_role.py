"""Which roles a worker has, and where `up` runs them."""

from __future__ import annotations

import pytest

from stocktide.errors import CommandError
from stocktide.settings import ALL, AUTO, DECIDE, PUBLISH, Settings
from stocktide.up.system import APART_CORES_MIN, choose_role


def test_up_publishes_in_a_process_of_its_own_where_there_are_cores_for_it() -> None:
    assert choose_role(AUTO, APART_CORES_MIN) == DECIDE
    assert choose_role(AUTO, APART_CORES_MIN - 1) == ALL


def test_up_keeps_one_worker_where_that_is_wanted() -> None:
    assert choose_role(ALL, APART_CORES_MIN) == ALL


@pytest.mark.parametrize("role", [DECIDE, PUBLISH])
def test_up_refuses_to_run_half_a_worker(role: str) -> None:
    with pytest.raises(CommandError, match="runs both roles"):
        choose_role(role, APART_CORES_MIN)


def test_an_unknown_role_is_an_error_that_lists_the_roles() -> None:
    with pytest.raises(CommandError, match="decide, publish, all, auto"):
        Settings(worker_role="derive").check()
