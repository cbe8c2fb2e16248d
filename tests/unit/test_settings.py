"""An error in the environment is a sentence that names the variable and its valid values."""

from __future__ import annotations

import re

import pytest

from stocktide.settings import Settings, SettingsError, unread_variables


def refused(**environ: str) -> str:
    """The message with which an environment is refused."""
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment(environ)
    assert unread_variables(environ) == []
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STOCKTIDE_PRT", "STOCKTIDE_PORT"),
        ("STOCKTIDE_KAFAK", "STOCKTIDE_KAFKA"),
        ("STOCKTIDE_PROT", "STOCKTIDE_PORT"),
        ("STOCKTIDE_REDIS_PASSWRD_FILE", "STOCKTIDE_REDIS_PASSWORD_FILE"),
        ("STOCKTIDE_App_Id", "STOCKTIDE_APP_ID"),
        ("STOCKTIDE_MAPPING", "STOCKTIDE_MAPPINGS"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_one_that_is_meant(name: str, meant: str) -> None:
    assert refused(**{name: "1"}) == f"{name} is not a setting of Stocktide: is {meant} meant?"


@pytest.mark.parametrize(
    "name",
    [
        "STOCKTIDE_FAILPOINTS",
        "STOCKTIDE_INTAKE_SHOPIFY_SECRET",
        "STOCKTIDE_MAPPINGS",
        "STOCKTIDE_SOAK_SECONDS",
        "STOCKTIDE_TEST_SEED",
        "STOCKTIDE_PORT",
        "PORT",
    ],
)
def test_a_variable_that_something_reads_is_neither_refused_nor_warned_of(name: str) -> None:
    Settings.from_environment({name: "8081"})
    assert unread_variables({name: "8081"}) == []


def test_blocks_that_webhooks_may_call_have_to_be_blocks() -> None:
    assert Settings.from_environment({"STOCKTIDE_WEBHOOK_ALLOW": "10.0.0.0/8, fd00::/8"}).webhook_allow
    assert refused(STOCKTIDE_WEBHOOK_ALLOW="10.0.0.1/8").startswith("STOCKTIDE_WEBHOOK_ALLOW is '10.0.0.1/8'")


def test_a_variable_that_is_like_no_setting_is_warned_of() -> None:
    environ = {"STOCKTIDE_COLOUR_OF_THE_BOARD": "blue", "STOCKTIDE_KAFKA_URL": "k:9092"}
    Settings.from_environment(environ)
    assert unread_variables(environ) == [
        "STOCKTIDE_COLOUR_OF_THE_BOARD is not a setting of Stocktide, so it has no effect",
        "STOCKTIDE_KAFKA_URL is not a setting of Stocktide, so it has no effect (the nearest one is STOCKTIDE_KAFKA)",
    ]


def test_a_setting_with_a_whole_number_names_its_range() -> None:
    assert refused(STOCKTIDE_PORT="80x") == "STOCKTIDE_PORT is '80x': it has to be a whole number from 0 to 65535"
    assert refused(STOCKTIDE_TICK_MS="5") == "STOCKTIDE_TICK_MS is 5: it has to be a whole number from 10 to 60000"
    assert refused(STOCKTIDE_PARTITIONS="") == "STOCKTIDE_PARTITIONS is '': it has to be a whole number from 1 to 256"


def test_no_message_of_a_setting_speaks_of_python() -> None:
    for name in ("PORT", "SHARDS", "REPLICATION", "AUDIT_INTERVAL", "PARK_SECONDS"):
        message = refused(**{f"STOCKTIDE_{name}": "1.5"})
        assert re.fullmatch(r"STOCKTIDE_\w+ is '1\.5': it has to be a whole number( from \d+ to \d+)?", message)


def test_what_kubernetes_sets_for_services_of_that_name_is_not_refused() -> None:
    names = ("API_PORT_8080_TCP_ADDR", "API_SERVICE_HOST", "REDIS_PORT", "REDIS_SERVICE_PORT", "KAFKA_PORT_9092_TCP")
    Settings.from_environment({f"STOCKTIDE_{name}": "tcp://10.0.0.7:80" for name in names})


def test_the_api_asks_for_keys_unless_it_is_told_otherwise() -> None:
    assert Settings.from_environment({}).open == 0
    assert "loopback only" in refused(STOCKTIDE_OPEN="1", STOCKTIDE_HOST="0.0.0.0")
