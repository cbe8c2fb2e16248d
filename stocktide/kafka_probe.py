"""Does a Kafka answer, and if not, why? One look at one broker.

In: HOST:PORT, and what lets a client in. Out: nothing where it answers, else the reason as a sentence's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Any

PROBE_SECONDS_MAX = 3.0
NOT_LISTENING = "nobody listens there"


async def kafka_answers(address: str) -> bool:
    """Whether an open broker at HOST:PORT tells its metadata now."""
    return await probe_kafka(address) is None


async def probe_kafka(address: str, **security: Any) -> str | None:
    """Why the broker at HOST:PORT does not tell its metadata now; None where it does."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    # First a bare connection: aiokafka's client logs an error for each refused one, and hides why TLS failed.
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(host, int(port), ssl=security.get("ssl_context")), PROBE_SECONDS_MAX
        )
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"TLS fails: {error.reason or error}"
    except ConnectionResetError:
        return "it closes the connection"
    except (OSError, TimeoutError):
        return NOT_LISTENING
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return await _trouble_of_metadata(host, int(port), security)


async def _trouble_of_metadata(host: str, port: int, security: dict[str, Any]) -> str | None:
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaConnectionError, KafkaError
    from aiokafka.protocol.metadata import MetadataRequest

    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    connection = None
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            connection = await create_conn(host, port, request_timeout_ms=int(PROBE_SECONDS_MAX * 1000), **security)
            metadata = await connection.send(MetadataRequest([]))
        return None if metadata.brokers else "it tells of no brokers yet"
    except (KafkaConnectionError, OSError, TimeoutError):
        protocol = security.get("security_protocol", "PLAINTEXT")
        certificate = ", or asks for a certificate (STOCKTIDE_KAFKA_TLS_CERT)" if "ssl_context" in security else ""
        return f"what listens there does not speak Kafka with {protocol} (STOCKTIDE_KAFKA_SECURITY){certificate}"
    except KafkaError as error:
        return f"it does not let us in: {error}"
    finally:
        if connection is not None:
            connection.close()
        logger.setLevel(level)
