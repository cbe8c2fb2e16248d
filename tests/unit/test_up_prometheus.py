"""What `up --with-prometheus` refuses before anything starts, and what it lets Prometheus scrape."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from stocktide.command_line import cli
from stocktide.errors import CommandError
from stocktide.progress import silent
from stocktide.up.program import ProgramEnded
from stocktide.up.prometheus import KEY_FILE, api_job, prometheus_program, store_key, worker_job


def test_without_the_program_nothing_starts_and_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    data = tmp_path / "data"
    done = CliRunner().invoke(cli, ["up", "--data", str(data), "--port", "0", "--with-prometheus"])
    assert isinstance(done.exception, CommandError), done.output
    assert "apt-get install prometheus" in str(done.exception) and "starting" not in done.output
    assert not data.exists()


def test_a_key_that_is_not_known_any_more_is_taken_from_where_the_owner_puts_it(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=f"stocktide keys add metrics.*{KEY_FILE}"):
        store_key(tmp_path, None)
    stored = store_key(tmp_path, "stk_first")
    assert stored.read_text() == "stk_first" and stored.stat().st_mode & 0o077 == 0
    stored.write_text("stk_other")
    assert store_key(tmp_path, None).read_text() == "stk_other"


async def test_prometheus_gets_no_secret_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKTIDE_ALERTS_DUTY_SECRET", "HUSH")
    monkeypatch.setenv("TZ", "UTC")
    binary, seen = tmp_path / "prometheus", tmp_path / "seen"
    binary.write_text(f"#!/bin/sh\nenv > {seen}\n")
    binary.chmod(0o755)
    program = prometheus_program(str(binary), tmp_path / "data", 1, [], tmp_path, silent)
    with pytest.raises(ProgramEnded):
        await program.start()
    assert "TZ=UTC" in seen.read_text() and "STOCKTIDE" not in seen.read_text()


def test_the_api_is_scraped_with_its_key_and_over_tls_where_it_has_a_certificate(tmp_path: Path) -> None:
    secured = api_job("https://127.0.0.1:8443", tmp_path / "key")
    assert secured["scheme"] == "https" and secured["authorization"]["credentials_file"] == str(tmp_path / "key")
    assert secured["static_configs"] == [{"targets": ["127.0.0.1:8443"]}]
    assert set(api_job("http://127.0.0.1:8080", None)) == {"job_name", "static_configs"}
    both = worker_job(["http://127.0.0.1:8081", "http://127.0.0.1:8082"])
    assert both["static_configs"] == [{"targets": ["127.0.0.1:8081", "127.0.0.1:8082"]}]
