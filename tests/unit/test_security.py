"""Credentials for Kafka and Redis: consistent ones become keyword arguments, inconsistent ones are named."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from stocktide.doctor.command import shown_settings
from stocktide.errors import CommandError
from stocktide.settings import Settings, SettingsError
from stocktide.up.system import UpOptions

SASL = {
    "STOCKTIDE_KAFKA_SECURITY": "SASL_PLAINTEXT",
    "STOCKTIDE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "STOCKTIDE_KAFKA_SASL_USER": "shop",
    "STOCKTIDE_KAFKA_SASL_PASSWORD": "pa55word",
}


def refusal(environ: dict[str, str]) -> str:
    """The message with which these variables are refused."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environ)
    assert "pa55word" not in str(refused.value)
    return str(refused.value)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    folder = tmp_path_factory.mktemp("pair")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def test_an_open_kafka_and_redis_need_nothing() -> None:
    settings = Settings.from_environment({})
    assert settings.kafka_client() == {"bootstrap_servers": "127.0.0.1:9092"}
    assert settings.redis_access() == {}


def test_a_name_and_a_password_go_to_the_client() -> None:
    assert Settings.from_environment(SASL).kafka_client() == {
        "bootstrap_servers": "127.0.0.1:9092",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "shop",
        "sasl_plain_password": "pa55word",
    }


def test_a_password_may_lie_in_a_file_with_a_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pa55 word\n")
    environ = {**SASL, "STOCKTIDE_KAFKA_SASL_PASSWORD": "", "STOCKTIDE_KAFKA_SASL_PASSWORD_FILE": str(file)}
    assert Settings.from_environment(environ).kafka_access()["sasl_plain_password"] == "pa55 word"
    redis = {"STOCKTIDE_REDIS_USER": "shop", "STOCKTIDE_REDIS_PASSWORD_FILE": str(file)}
    assert Settings.from_environment(redis).redis_access() == {"username": "shop", "password": "pa55 word"}
    file.write_text("\n")
    assert "STOCKTIDE_KAFKA_SASL_PASSWORD_FILE" in refusal(environ)


def test_tls_trusts_the_given_authority_and_shows_the_own_certificate(pair: tuple[Path, Path]) -> None:
    cert, key = (str(file) for file in pair)
    kafka = {"STOCKTIDE_KAFKA_SECURITY": "SSL", "STOCKTIDE_KAFKA_TLS_CA": cert}
    own = {"STOCKTIDE_KAFKA_TLS_CERT": cert, "STOCKTIDE_KAFKA_TLS_KEY": key}
    context = Settings.from_environment({**kafka, **own}).kafka_access()["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    redis = {"STOCKTIDE_REDIS": "rediss://host:6380/0", "STOCKTIDE_REDIS_TLS_CA": cert}
    assert Settings.from_environment(redis).redis_access() == {"ssl_ca_certs": cert}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"KAFKA_SECURITY": "TLS"}, "STOCKTIDE_KAFKA_SECURITY is 'TLS'"),
        ({"KAFKA_SASL_MECHANISM": ""}, "STOCKTIDE_KAFKA_SASL_MECHANISM is not set"),
        ({"KAFKA_SASL_MECHANISM": "MD5"}, "STOCKTIDE_KAFKA_SASL_MECHANISM is 'MD5'"),
        ({"KAFKA_SASL_USER": ""}, "STOCKTIDE_KAFKA_SASL_USER is not set"),
        ({"KAFKA_SASL_PASSWORD": ""}, "neither STOCKTIDE_KAFKA_SASL_PASSWORD nor"),
        ({"KAFKA_SASL_PASSWORD_FILE": "/dev/null"}, "STOCKTIDE_KAFKA_SASL_PASSWORD_FILE are both set"),
        ({"KAFKA_SECURITY": "PLAINTEXT"}, "STOCKTIDE_KAFKA_SASL_MECHANISM is set, but STOCKTIDE_KAFKA_SECURITY"),
        ({"KAFKA_TLS_CA": "/ca.pem"}, "STOCKTIDE_KAFKA_TLS_CA is set, but"),
        ({"KAFKA_SECURITY": "SASL_SSL", "KAFKA_TLS_CA": "/no/ca.pem"}, "STOCKTIDE_KAFKA_TLS_CA is /no/ca.pem"),
        ({"KAFKA_SECURITY": "SASL_SSL", "KAFKA_TLS_KEY": "/key"}, "without STOCKTIDE_KAFKA_TLS_CERT"),
        ({"REDIS_TLS_CA": "/ca.pem"}, "STOCKTIDE_REDIS_TLS_CA is set, but STOCKTIDE_REDIS begins with redis://"),
        ({"REDIS_USER": "shop"}, "STOCKTIDE_REDIS_USER is set without a password"),
        ({"REDIS": "redis://a:pa55word@h:1/0", "REDIS_USER": "b"}, "STOCKTIDE_REDIS_USER is set, and the URL"),
        ({"REDIS": "redis://a:pa55word@h:1/0", "REDIS_PASSWORD_FILE": "/f"}, "STOCKTIDE_REDIS_PASSWORD_FILE is set"),
        ({"REDIS_PASSWORD_FILE": "/no/file"}, "STOCKTIDE_REDIS_PASSWORD_FILE is /no/file: No such file"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(changed: dict[str, str], named: str) -> None:
    assert named in refusal({**SASL, **{f"STOCKTIDE_{name}": value for name, value in changed.items()}})


def test_a_file_that_is_too_long_for_a_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dump"
    file.write_text("x" * 4_097)
    assert f"{file}: a password has at most 4096 bytes" in refusal({"STOCKTIDE_REDIS_PASSWORD_FILE": str(file)})


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    ssl_only = {"STOCKTIDE_KAFKA_SECURITY": "SSL"}
    assert "no certificates in PEM" in refusal({**ssl_only, "STOCKTIDE_KAFKA_TLS_CA": str(nothing)})
    own = {"STOCKTIDE_KAFKA_TLS_CERT": str(pair[0]), "STOCKTIDE_KAFKA_TLS_KEY": str(nothing)}
    assert "STOCKTIDE_KAFKA_TLS_KEY" in refusal({**ssl_only, **own})


def test_no_secret_is_shown() -> None:
    environ = {**SASL, "STOCKTIDE_REDIS": "redis://:pa55word@host:1/0"}
    settings = Settings.from_environment(environ)
    shown = "\n".join(shown_settings(settings))
    assert "pa55word" not in shown
    assert "STOCKTIDE_KAFKA_SASL_PASSWORD=***" in shown
    assert "STOCKTIDE_REDIS_PASSWORD=\n" in shown
    assert "pa55word" not in repr(settings)


def test_a_child_reads_the_same_settings() -> None:
    settings = Settings.from_environment({**SASL, "STOCKTIDE_REDIS_PASSWORD": "other"})
    assert Settings.from_environment(settings.as_environment()) == settings


def test_the_embedded_servers_take_no_locks() -> None:
    with pytest.raises(CommandError, match="STOCKTIDE_KAFKA_SECURITY"):
        UpOptions().check(Settings.from_environment(SASL))
    with pytest.raises(CommandError, match="STOCKTIDE_REDIS_USER"):
        UpOptions().check(Settings.from_environment({"STOCKTIDE_REDIS_PASSWORD": "other"}))
    UpOptions(embed_kafka=False).check(Settings.from_environment(SASL))
