"""Messages of each kind, taken by servers that check format, limits and signature as documented."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from click.testing import CliRunner

from stocktide.agents.notify.config import AlertsConfig, Kind, Receiver, read_alerts_file
from stocktide.agents.notify.delivery import deliver
from stocktide.agents.notify.robots import Content
from stocktide.agents.notify.routing import Alert, decode_alert
from stocktide.agents.notify.texts import line_of
from stocktide.command_line import cli
from stocktide.errors import StocktideError
from stocktide.streams.contract.alert_types import ALERT_TYPES, Language
from stocktide.streams.contract.documents import PublishedAlert, encode
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import CallResult, make_session
from tests.harness.robots import Robots, receivers_of, running_robots

LOOPBACK = parse_networks("127.0.0.0/8")
KINDS = ("dingtalk", "wecom", "feishu", "slack", "webhook")


def alert(number: int, sku: str = "", detail: str | None = None, type_: str = "low_stock") -> Alert:
    row = PublishedAlert(
        id=f"9-{number}",
        type=type_,
        sku=sku or f"SKU-{number}",
        channel="jd",
        quantity=number,
        at="2026-11-11T16:00:00.000Z",
        batch=9,
        detail=msgspec.UNSET if detail is None else detail,
    )
    return decode_alert(encode(row))


@pytest.fixture
async def robots() -> AsyncIterator[Robots]:
    async with running_robots() as found:
        yield found


def write_file(robots: Robots, folder: Path, language: str = "en") -> Path:
    file = folder / "alerts.yaml"
    receivers = receivers_of(robots, folder, language)
    routes = [{"receiver": each["name"], "continue": True} for each in receivers]
    file.write_bytes(msgspec.yaml.encode({"receivers": receivers, "routes": routes, "zone": "Asia/Shanghai"}))
    return file


async def send(robots: Robots, config: AlertsConfig, kind: str, content: Content) -> tuple[CallResult, int]:
    receiver = config.receiver(kind)
    assert receiver is not None
    async with make_session(LOOPBACK) as session:
        return await deliver(session, receiver, content)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_with_its_signature_is_taken_in_both_languages(
    robots: Robots, tmp_path: Path, kind: str
) -> None:
    content = Content((("type", "low_stock"), ("channel", "jd")), [alert(3), alert(4)], more=5, repeats=2)
    for language in ("en", "zh"):
        config = read_alerts_file(write_file(robots, tmp_path, language), {}, LOOPBACK)
        result, count = await send(robots, config, kind, content)
        assert result.ok and count == 2, result
    english, chinese = (msgspec.json.encode(each).decode() for each in robots.taken[kind])
    assert "SKU-3" in english and "SKU-4" in chinese
    if kind == "webhook":
        assert robots.taken[kind][0]["items"][0] == msgspec.json.decode(alert(3).row)
        assert (robots.taken[kind][0]["more"], robots.taken[kind][0]["repeats"]) == (5, 2)
    else:
        assert "Stocktide: 7 × low stock, channel jd" in english and "and 5 more" in english
        assert "库存偏低" in chinese and "2026-11-12 00:00:00" in chinese and "另有 5 条" in chinese


@pytest.mark.parametrize("kind", KINDS)
async def test_the_largest_message_keeps_the_limits_of_its_robot(robots: Robots, tmp_path: Path, kind: str) -> None:
    config = read_alerts_file(write_file(robots, tmp_path, "zh"), {}, LOOPBACK)
    alerts = [alert(number, "货" * 128, "<详情&" * 100) for number in range(200)]
    sent = 0
    while sent < len(alerts):
        result, count = await send(robots, config, kind, Content((), alerts[sent:]))
        assert result.ok and count > 0, result
        sent += count
    if kind == "webhook":
        items = [item["id"] for body in robots.taken[kind] for item in body["items"]]
        assert items == [each.id for each in alerts], "no alert is left out, divided or sent twice"
    else:
        assert len(robots.taken[kind]) == 1 and "另有 1" in robots.text(kind)


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [("dingtalk", 310000, "signature"), ("wecom", 45009, "too much"), ("feishu", 19024, "keyword"), ("wecom", 7, "7")],
)
async def test_an_error_in_the_body_of_a_200_is_a_failure(
    robots: Robots, tmp_path: Path, kind: str, code: int, said: str
) -> None:
    config = read_alerts_file(write_file(robots, tmp_path), {}, LOOPBACK)
    robots.errors[kind] = code
    result, _ = await send(robots, config, kind, Content((), [alert(1)]))
    assert not result.ok and said in result.error and "as the test" not in result.error


async def test_an_answer_that_is_not_a_robots_is_a_failure(robots: Robots, tmp_path: Path) -> None:
    file = write_file(robots, tmp_path)
    file.write_text(file.read_text().replace("/dingtalk?", "/slack?"))  # a page that answers `ok` to everything
    (tmp_path / "dingtalk.secret").write_text("other")
    result, _ = await send(robots, read_alerts_file(file, {}, LOOPBACK), "dingtalk", Content((), [alert(1)]))
    assert not result.ok


@pytest.mark.parametrize("kind", ["dingtalk", "wecom"])
async def test_names_are_no_markup(robots: Robots, tmp_path: Path, kind: str) -> None:
    config = read_alerts_file(write_file(robots, tmp_path), {}, LOOPBACK)
    await send(robots, config, kind, Content((), [alert(1, "[pay](http://x)", "<@all>\n# new **line**")]))
    text = robots.text(kind)
    assert "](" not in text and "<@" not in text and "**line" not in text and "\\n#" not in text


@pytest.mark.parametrize("kind", ["slack", "webhook"])
async def test_a_call_is_taken_although_the_body_of_its_answer_never_ends(kind: Kind) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        with contextlib.suppress(OSError):
            await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server, make_session(LOOPBACK) as session:
        port = server.sockets[0].getsockname()[1]
        secret = "whsec_" + "A" * 32 if kind == "webhook" else ""
        receiver = Receiver(kind, kind, f"http://127.0.0.1:{port}/", secret, "en", ZoneInfo("UTC"))
        result, count = await asyncio.wait_for(deliver(session, receiver, Content((), [alert(1)])), 10)
    assert result.ok and count == 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_type_makes_a_line(language: Language) -> None:
    lines = {line_of(alert(1, type_=name), language, ZoneInfo("UTC")) for name in ALERT_TYPES}
    assert len(lines) == len(ALERT_TYPES) and all("SKU-1" in line for line in lines)


async def run(*arguments: str, **environ: str) -> tuple[int, str]:
    """The exit status, and the output or the error."""
    found = await asyncio.to_thread(CliRunner().invoke, cli, ["alerts", *arguments], env=environ)
    if isinstance(found.exception, StocktideError):
        return getattr(found.exception, "exit_status", 1), str(found.exception)
    return found.exit_code, found.output


async def test_the_command_sends_a_test_alert_and_names_what_failed(robots: Robots, tmp_path: Path) -> None:
    file = str(write_file(robots, tmp_path))
    environ = {"STOCKTIDE_ALERTS_FILE": file, "STOCKTIDE_WEBHOOK_ALLOW": "127.0.0.0/8"}
    assert await run("test", **environ) == (0, "".join(f"{kind}: sent\n" for kind in KINDS))
    assert all("test" in robots.text(kind) for kind in KINDS)
    robots.down.add("slack")
    robots.errors["feishu"] = 19021
    status, output = await run("test", **environ)
    assert status == 1 and "slack: the answer was 503" in output and "feishu: code 19021: the signature" in output
    assert await run("test", "wecom", **environ) == (0, "wecom: sent\n")
    assert (await run("test", "nobody", **environ))[0] == 2
    status, output = await run("test", STOCKTIDE_ALERTS_FILE=file)
    assert status == 2 and "receivers[0].url: its address is not public" in output and "access_token" not in output


async def test_a_receiver_that_cannot_be_reached_is_named_with_the_reason_and_without_its_address(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    file = tmp_path / "alerts.yaml"
    urls = {"closed": f"http://127.0.0.1:{unused_tcp_port}/HUSH", "nowhere": "http://nowhere.invalid/HUSH"}
    receivers = [f"{{name: {name}, kind: slack, url: '{url}'}}" for name, url in urls.items()]
    file.write_text(f"receivers: [{', '.join(receivers)}]\nroutes: []\n")
    status, output = await run("test", STOCKTIDE_ALERTS_FILE=str(file), STOCKTIDE_WEBHOOK_ALLOW="127.0.0.0/8")
    assert status == 1 and "HUSH" not in output and "127.0.0.1" not in output
    assert "closed: no connection: Connection refused" in output
    assert "nowhere: no connection: its name is not known" in output


async def test_the_command_shows_what_a_file_says_without_urls_and_secrets(robots: Robots, tmp_path: Path) -> None:
    file = str(write_file(robots, tmp_path))
    status, output = await run("check", file, STOCKTIDE_WEBHOOK_ALLOW="127.0.0.0/8")
    assert status == 0 and "receiver feishu: feishu, en" in output and "every alert → slack · goes on" in output
    assert "http" not in output and "SEC" not in output
    assert (await run("check"))[0] == 2
