"""A Kafka and a Redis with access control as an operator runs them: TLS, a user with a password, sufficient rights.

In: a folder, certificates. Out: running servers, and the variables with which Stocktide connects.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import redis.asyncio
from aiokafka.protocol.admin import CreateAclsRequest

from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.valkey import find_valkey
from stocktide.streams.kafka.admin import admin_client
from tests.harness.certificates import Certificates
from tests.harness.servers import ConfiguredKafka, RedisProcess

USER, PASSWORD = "shop", "pass-word-5"
# The numbers of Kafka's protocol.
TOPIC, GROUP, CLUSTER = 2, 3, 4
LITERAL, PREFIXED = 3, 4
ALLOW = 3
OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Alter": 7,
    "Describe": 8,
    "DescribeConfigs": 10,
    "AlterConfigs": 11,
}

# `{broker}` and `{controller}` are the ports of the embedded Kafka.
_LISTENERS = {
    "listeners": "PLAINTEXT://127.0.0.1:{broker},SASL_SSL://127.0.0.1:SECURE,CONTROLLER://127.0.0.1:{controller}",
    "advertised.listeners": "PLAINTEXT://127.0.0.1:{broker},SASL_SSL://localhost:SECURE",
}
_SECURITY = {
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL",
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
    "ssl.client.auth": "required",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "allow.everyone.if.no.acl.found": "false",
}


class SecuredKafka(ConfiguredKafka):
    """The embedded Kafka with a second listener: SASL_SSL with SCRAM, client certificates and an authorizer. The first
    listener, `address`, is for the operator."""

    def __init__(self, folder: Path, log: Path, certificates: Certificates) -> None:
        self._certificates = certificates
        self._secure = pick_free_port()
        folder.mkdir(parents=True, exist_ok=True)
        keystore = folder / "keystore.pem"
        keystore.write_text(certificates.server_key.read_text() + certificates.server.read_text())
        listeners = {name: value.replace("SECURE", str(self._secure)) for name, value in _LISTENERS.items()}
        files = {"ssl.keystore.location": str(keystore), "ssl.truststore.location": str(certificates.ca)}
        super().__init__(folder, log, {**_SECURITY, **listeners, **files})

    def environment(self, password_file: Path) -> dict[str, str]:
        """The variables with which Stocktide connects; the password is written to the file."""
        password_file.write_text(f"{PASSWORD}\n")
        return {
            "STOCKTIDE_KAFKA": f"localhost:{self._secure}",
            "STOCKTIDE_KAFKA_SECURITY": "SASL_SSL",
            "STOCKTIDE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "STOCKTIDE_KAFKA_SASL_USER": USER,
            "STOCKTIDE_KAFKA_SASL_PASSWORD_FILE": str(password_file),
            "STOCKTIDE_KAFKA_TLS_CA": str(self._certificates.ca),
            "STOCKTIDE_KAFKA_TLS_CERT": str(self._certificates.client),
            "STOCKTIDE_KAFKA_TLS_KEY": str(self._certificates.client_key),
        }

    async def allow(self, kind: int, name: str, operations: tuple[str, ...], pattern: int = LITERAL) -> None:
        async with admin_client(self.address) as admin:
            for operation in operations:
                request = CreateAclsRequest(kind, name, pattern, f"User:{USER}", "*", OPERATIONS[operation], ALLOW)
                answer: Any = await admin._send_request(request)
                assert all(code == 0 for code, _ in answer.creation_responses), answer

    def _storage_options(self) -> tuple[str, ...]:
        return (*super()._storage_options(), "--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]")


class SecuredRedis(RedisProcess):
    """A server whose default user is off, with one user that has the rights of docs/operations.md. With TLS where
    `redis-server` is installed (the embedded Valkey is built without)."""

    def __init__(self, folder: Path, acl: str, certificates: Certificates) -> None:
        program = shutil.which("redis-server")
        self._certificates = certificates if program is not None else None
        rules = folder / "users.acl"
        rules.write_text(f"user default off\nuser operator on >{PASSWORD} ~* &* +@all\n{acl}\n")
        super().__init__(program or find_valkey(), folder, "--aclfile", str(rules))
        if (tls := self._certificates) is not None:
            self.options += ("--port", "0", "--tls-port", str(self.port), "--tls-ca-cert-file", str(tls.ca))
            self.options += ("--tls-cert-file", str(tls.server), "--tls-key-file", str(tls.server_key))

    def environment(self) -> dict[str, str]:
        """The variables with which Stocktide connects."""
        if self._certificates is None:
            return {"STOCKTIDE_REDIS": f"redis://{USER}:{PASSWORD}@127.0.0.1:{self.port}/0"}
        return {
            "STOCKTIDE_REDIS": f"rediss://localhost:{self.port}/0",
            "STOCKTIDE_REDIS_USER": USER,
            "STOCKTIDE_REDIS_PASSWORD": PASSWORD,
            "STOCKTIDE_REDIS_TLS_CA": str(self._certificates.ca),
            "STOCKTIDE_REDIS_TLS_CERT": str(self._certificates.client),
            "STOCKTIDE_REDIS_TLS_KEY": str(self._certificates.client_key),
        }

    def operator(self) -> redis.asyncio.Redis:
        """A client with all rights."""
        options: dict[str, Any] = {}
        if (tls := self._certificates) is not None:
            options = {"ssl": True, "ssl_ca_certs": str(tls.ca)}
            options |= {"ssl_certfile": str(tls.client), "ssl_keyfile": str(tls.client_key)}
        return redis.asyncio.Redis(port=self.port, username="operator", password=PASSWORD, **options)
