"""Robots as their makers document them: real HTTP servers on loopback that check format, limits and signature.

In: calls; errors that a test makes a robot answer. Out: the messages that were taken. A robot answers 200 with an error
in its body; what it checks was written down from the makers' pages (docs/alerts.md), not from the sender's code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.harness.eventually import eventually

DINGTALK_SECRET, FEISHU_SECRET = "SEC0123456789abcdef", "feishu/secret+1"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
# A signature may be an hour old.
AGE_SECONDS_MAX = 3_600


@dataclass
class Robots:
    """One robot of each kind, named by it; `down` and `errors` (a code of its body) make one fail."""

    base: str = ""
    down: set[str] = field(default_factory=set)
    errors: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)
    taken: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    async def handle(self, request: web.Request) -> web.Response:
        kind, raw = request.match_info["kind"], await request.read()
        answer = self._answer(kind, request, raw)
        self.calls.append((kind, answer.status))
        return answer

    def _answer(self, kind: str, request: web.Request, raw: bytes) -> web.Response:
        if kind in self.down:
            return web.Response(status=503)
        wrong = getattr(self, f"_check_{kind}")(request, raw)
        if wrong is None and (code := self.errors.get(kind)):
            wrong = (code, "as the test wants it")
        if wrong is None:
            self.taken[kind].append(orjson.loads(raw))
        return _ANSWERS[kind](wrong)

    def text(self, kind: str) -> str:
        """Everything that a robot has taken."""
        return orjson.dumps(self.taken[kind]).decode()

    async def until(self, kind: str, said: str, seconds_max: float = 60.0) -> None:
        """Wait until a robot has taken a message with a text."""
        await eventually(lambda: said in self.text(kind), seconds_max, lambda: f"{self.calls[-10:]} {self.text(kind)}")

    def _check_dingtalk(self, request: web.Request, raw: bytes) -> tuple[int, str] | None:
        stamp, sign = request.query.get("timestamp", ""), request.query.get("sign", "")
        if request.query.get("access_token") != "T" or len(raw) > 20_000:
            return 300001, "token"
        text = f"{stamp}\n{DINGTALK_SECRET}".encode()
        due = base64.b64encode(hmac.new(DINGTALK_SECRET.encode(), text, hashlib.sha256).digest()).decode()
        if sign != due or abs(int(stamp) / 1000 - time.time()) > AGE_SECONDS_MAX:
            return 310000, "sign not match"
        body = orjson.loads(raw)
        is_right = body["msgtype"] == "markdown" and body["markdown"]["title"] and body["markdown"]["text"]
        return None if is_right else (400004, "format")

    def _check_wecom(self, request: web.Request, raw: bytes) -> tuple[int, str] | None:
        if request.query.get("key") != "K":
            return 93000, "invalid webhook url"
        body = orjson.loads(raw)
        is_right = body["msgtype"] == "markdown" and 0 < len(body["markdown"]["content"].encode()) <= 4_096
        return None if is_right else (40058, "markdown.content exceed max length 4096")

    def _check_feishu(self, request: web.Request, raw: bytes) -> tuple[int, str] | None:
        body = orjson.loads(raw)
        key = f"{body['timestamp']}\n{FEISHU_SECRET}".encode()
        due = base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
        if body["sign"] != due or abs(int(body["timestamp"]) - time.time()) > AGE_SECONDS_MAX:
            return 19021, "sign match fail or timestamp is not within one hour from current time"
        ((language, post),) = body["content"]["post"].items()
        tags = {part["tag"] for paragraph in post["content"] for part in paragraph}
        is_right = body["msg_type"] == "post" and language in ("zh_cn", "en_us") and tags == {"text"} and post["title"]
        return None if is_right and len(raw) <= 20 * 1024 else (9499, "Bad Request")

    def _check_slack(self, request: web.Request, raw: bytes) -> tuple[int, str] | None:
        body = orjson.loads(raw)
        header, section = body["blocks"]
        is_right = header["type"] == "header" and header["text"]["type"] == "plain_text" and body["text"]
        is_right = is_right and len(header["text"]["text"]) <= 150 and section["text"]["type"] == "mrkdwn"
        text = section["text"]["text"]
        is_right = is_right and 0 < len(text) <= 3_000 and "<" not in text
        return None if is_right else (400, "invalid_payload")

    def _check_webhook(self, request: web.Request, raw: bytes) -> tuple[int, str] | None:
        try:
            Webhook(WEBHOOK_SECRET).verify(raw, {name.lower(): value for name, value in request.headers.items()})
        except WebhookVerificationError as error:
            return 401, str(error)
        return None if len(raw) <= 20_000 else (413, "too large")


def _code(field_name: str, ok: str) -> Any:
    def answer(wrong: tuple[int, str] | None) -> web.Response:
        code, text = wrong or (0, ok)
        return web.json_response({field_name: code, "errmsg" if field_name == "errcode" else "msg": text})

    return answer


_ANSWERS: dict[str, Any] = {
    "dingtalk": _code("errcode", "ok"),
    "wecom": _code("errcode", "ok"),
    "feishu": _code("code", "success"),
    "slack": lambda wrong: web.Response(status=wrong[0], text=wrong[1]) if wrong else web.Response(text="ok"),
    "webhook": lambda wrong: web.Response(status=wrong[0] if wrong else 204),
}


@asynccontextmanager
async def running_robots() -> AsyncIterator[Robots]:
    """The robots, at `base` and their kind."""
    robots = Robots()
    app = web.Application()
    app.router.add_post("/{kind}", robots.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    robots.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield robots
    finally:
        await runner.cleanup()


def receivers_of(robots: Robots, folder: Path, language: str = "en") -> list[dict[str, object]]:
    """The receivers of a file of alerts, with their secrets in files of `folder`, named by their kind."""
    urls = {kind: f"{robots.base}/{kind}" for kind in _ANSWERS}
    urls["dingtalk"] += "?access_token=T"
    urls["wecom"] += "?key=K"
    secrets = {"dingtalk": DINGTALK_SECRET, "feishu": FEISHU_SECRET, "webhook": WEBHOOK_SECRET}
    for kind, secret in secrets.items():
        (folder / f"{kind}.secret").write_text(secret + "\n")
    return [
        {
            "name": kind,
            "kind": kind,
            "url": url,
            "language": language,
            **({"secret_file": f"{kind}.secret"} if kind in secrets else {}),
        }
        for kind, url in urls.items()
    ]
