"""Authentication and TLS for Kafka and Redis.

In: the settings. Out: keyword arguments for the clients of aiokafka and redis-py, or a SettingsError that names the
contradicting variable. No message holds a secret. A password file is read whenever a client is made.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from stocktide.errors import SettingsError

KAFKA_SECURITY = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# What is longer is another file. Redis refuses more than 16 KiB before a password with an error of the protocol.
PASSWORD_BYTES_MAX = 4_096
# redis-py accepts the password in the query too.
_QUERY_PASSWORD = re.compile(r"([?&]password=)[^&#]*", re.IGNORECASE)
_SASL = ("kafka_sasl_mechanism", "kafka_sasl_user", "kafka_sasl_password", "kafka_sasl_password_file")


def _text(help_text: str, **more: bool) -> Any:
    """A setting that is empty by default. A secret one is not shown in a traceback either."""
    return field(default="", metadata={"help": help_text, **more}, repr=not more.get("secret"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccess:
    """The settings of the connections to Kafka and Redis."""

    kafka: str = field(default="127.0.0.1:9092", metadata={"help": "bootstrap servers, HOST:PORT[,HOST:PORT]"})
    kafka_security: str = field(default="PLAINTEXT", metadata={"help": "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"})
    kafka_sasl_mechanism: str = _text("PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    kafka_sasl_user: str = _text("who we are to Kafka")
    kafka_sasl_password: str = _text("its password", secret=True)
    kafka_sasl_password_file: str = _text("a file with the password, instead")
    kafka_tls_ca: str = _text("PEM file of the authorities that sign Kafka's certificates; the system's if not set")
    kafka_tls_cert: str = _text("PEM file of our own certificate, where Kafka asks for one")
    kafka_tls_key: str = _text("PEM file of its key")
    redis: str = field(
        default="redis://127.0.0.1:6379/0",
        metadata={"help": "URL, rediss:// for TLS; may hold user and password", "secret": True},
        repr=False,
    )
    redis_user: str = _text("who we are to Redis, where the URL does not say")
    redis_password: str = _text("its password", secret=True)
    redis_password_file: str = _text("a file with the password, instead")
    redis_tls_ca: str = _text("PEM file of the authorities that sign Redis's certificate; the system's if not set")
    redis_tls_cert: str = _text("PEM file of our own certificate, where Redis asks for one")
    redis_tls_key: str = _text("PEM file of its key")

    def kafka_access(self) -> dict[str, Any]:
        """The arguments of an aiokafka client beside `bootstrap_servers`; none for PLAINTEXT. Raises SettingsError."""
        security = self.kafka_security
        if security == "PLAINTEXT":
            return {}
        access: dict[str, Any] = {"security_protocol": security}
        if security.endswith("SSL"):
            access["ssl_context"] = _tls(self, "kafka")
        if security.startswith("SASL"):
            access["sasl_mechanism"] = self.kafka_sasl_mechanism
            access["sasl_plain_username"] = self.kafka_sasl_user
            access["sasl_plain_password"] = _password(self, "kafka_sasl_password")
        return access

    def kafka_client(self) -> dict[str, Any]:
        """The arguments of an aiokafka client: address and access. Raises SettingsError."""
        return {"bootstrap_servers": self.kafka, **self.kafka_access()}

    def redis_access(self) -> dict[str, Any]:
        """The arguments of a redis-py client beside the URL `redis`. Raises SettingsError."""
        access: dict[str, Any] = {}
        if self.redis_user:
            access["username"] = self.redis_user
        if self.redis_password or self.redis_password_file:
            access["password"] = _password(self, "redis_password")
        for name, keyword in (("ca", "ssl_ca_certs"), ("cert", "ssl_certfile"), ("key", "ssl_keyfile")):
            if given := getattr(self, f"redis_tls_{name}"):
                access[keyword] = given
        return access

    def check_access(self) -> None:
        """Refuse settings that contradict each other. Raises SettingsError."""
        _check_kafka(self)
        _check_redis(self)


def _check_kafka(settings: ServerAccess) -> None:
    security = settings.kafka_security
    if security not in KAFKA_SECURITY:
        raise SettingsError(f"STOCKTIDE_KAFKA_SECURITY is {security!r}: one of {', '.join(KAFKA_SECURITY)}")
    if security.startswith("SASL"):
        _check_sasl(settings)
    else:
        for name in _SASL:
            if getattr(settings, name):
                raise SettingsError(
                    f"{_variable(name)} is set, but STOCKTIDE_KAFKA_SECURITY is {security}, which uses no password: "
                    "SASL_SSL does"
                )
    _check_tls(settings, "kafka", security.endswith("SSL"), f"STOCKTIDE_KAFKA_SECURITY is {security}: SSL or SASL_SSL")


def _check_sasl(settings: ServerAccess) -> None:
    security, mechanism = settings.kafka_security, settings.kafka_sasl_mechanism
    if mechanism not in SASL_MECHANISMS:
        found = f"is {mechanism!r}" if mechanism else "is not set"
        raise SettingsError(
            f"STOCKTIDE_KAFKA_SASL_MECHANISM {found}, and {security} needs one of {', '.join(SASL_MECHANISMS)}"
        )
    if not settings.kafka_sasl_user:
        raise SettingsError(f"STOCKTIDE_KAFKA_SASL_USER is not set, and {security} needs it")
    if not settings.kafka_sasl_password and not settings.kafka_sasl_password_file:
        raise SettingsError(
            f"neither STOCKTIDE_KAFKA_SASL_PASSWORD nor STOCKTIDE_KAFKA_SASL_PASSWORD_FILE is set, and {security} "
            "needs one"
        )
    _password(settings, "kafka_sasl_password")


def _check_redis(settings: ServerAccess) -> None:
    url = _split(settings.redis)
    for name, part in (("redis_user", url.username), ("redis_password", url.password)):
        for given in (name, f"{name}_file"):
            if part and getattr(settings, given, ""):
                raise SettingsError(
                    f"{_variable(given)} is set, and the URL in STOCKTIDE_REDIS names one too: only one of them"
                )
    has_password = bool(url.password or settings.redis_password or settings.redis_password_file)
    if settings.redis_user and not has_password:
        raise SettingsError(
            "STOCKTIDE_REDIS_USER is set without a password: set STOCKTIDE_REDIS_PASSWORD or "
            "STOCKTIDE_REDIS_PASSWORD_FILE"
        )
    if settings.redis_password or settings.redis_password_file:
        _password(settings, "redis_password")
    _check_tls(
        settings, "redis", url.scheme == "rediss", f"STOCKTIDE_REDIS begins with {url.scheme or '?'}://: rediss://"
    )


def _check_tls(settings: ServerAccess, server: str, used: bool, otherwise: str) -> None:
    given = [f"{server}_tls_{part}" for part in ("ca", "cert", "key") if getattr(settings, f"{server}_tls_{part}")]
    if given and not used:
        raise SettingsError(f"{_variable(given[0])} is set, but {otherwise} uses TLS")
    cert, key = f"{server}_tls_cert", f"{server}_tls_key"
    for name, other in ((cert, key), (key, cert)):
        if name in given and other not in given:
            raise SettingsError(f"{_variable(name)} is set without {_variable(other)}: a certificate and its key")
    if used:
        _tls(settings, server)


def _tls(settings: ServerAccess, server: str) -> ssl.SSLContext:
    """A context that trusts the given CA, else the system's, and checks the server's host name."""
    ca, cert, key = (str(getattr(settings, f"{server}_tls_{part}")) for part in ("ca", "cert", "key"))
    for name, file in (("ca", ca), ("cert", cert), ("key", key)):
        if file:
            read_file_of(f"{server}_tls_{name}", file)
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError as error:
        raise SettingsError(f"{_variable(f'{server}_tls_ca')} is {ca}: no certificates in PEM are in it") from error
    if cert:
        try:
            # With a password OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(cert, key, password="")
        except ssl.SSLError as error:
            raise SettingsError(
                f"{_variable(f'{server}_tls_cert')} is {cert} and {_variable(f'{server}_tls_key')} is {key}: "
                "no certificate in PEM with its own key, without a passphrase"
            ) from error
    return context


def _password(settings: ServerAccess, name: str) -> str:
    given, file = str(getattr(settings, name)), str(getattr(settings, f"{name}_file"))
    if given and file:
        raise SettingsError(f"{_variable(name)} and {_variable(f'{name}_file')} are both set: only one of them")
    if not file:
        return given
    password = read_file_of(f"{name}_file", file).strip(b"\r\n")
    if not password:
        raise SettingsError(f"{_variable(f'{name}_file')} is {file}: the file is empty")
    if len(password) > PASSWORD_BYTES_MAX:
        raise SettingsError(f"{_variable(f'{name}_file')} is {file}: a password has at most {PASSWORD_BYTES_MAX} bytes")
    return password.decode(errors="replace")


def read_file_of(name: str, file: str) -> bytes:
    """The content of the file that a setting names. Raises SettingsError."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{_variable(name)} is {file}: {error.strerror}") from error


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise SettingsError("STOCKTIDE_REDIS is no URL, as in redis://127.0.0.1:6379/0") from error


def _variable(name: str) -> str:
    return f"STOCKTIDE_{name.upper()}"


def redact_url(url: str) -> str:
    """A URL without its password; also a text that is no URL because its password is not escaped."""
    scheme, separator, rest = _QUERY_PASSWORD.sub(r"\1***", url).partition("://")
    before, at, after = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    return f"{scheme}{separator}{user}:***{at}{after}" if colon else f"{scheme}{separator}{rest}"
