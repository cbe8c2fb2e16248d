"""The messages of each kind of receiver: how they are written and signed, and what an answer means.

In: a receiver and what it has to get. Out: a `Request` for its HTTP call, with the number of alerts in it; a result of
an answer. A robot answers 200 with an error in its body, which is a failure. Where the facts are from: docs/alerts.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from yarl import URL

from stocktide.agents.notify.config import Kind, Receiver
from stocktide.agents.notify.routing import Alert
from stocktide.agents.notify.texts import line_of, notes_of, title_of
from stocktide.streams.webhooks.calls import CallResult, sign

# Alerts in one message of a robot: more are not read in a chat.
LINES_MAX = 20
# Bytes of the text of a message. DingTalk: 20,000 of a body; WeCom: 4,096 of `content`; Feishu: 20 KB of a body; Slack:
# 3,000 characters of a section, of which one may take 5 bytes once it is escaped.
TEXT_BYTES_MAX: dict[Kind, int] = {"dingtalk": 15_000, "wecom": 4_000, "feishu": 15_000, "slack": 2_900}
TITLE_CHARACTERS_MAX = 120
# Standard Webhooks: under 20 KB. An alert is never divided: one that is larger goes alone.
BODY_BYTES_MAX = 20_000
# Seconds from one message to the next. DingTalk and WeCom take 20 a minute (DingTalk then none for ten minutes), Feishu
# 100, Slack one a second.
GAP_SECONDS: dict[Kind, float] = {"dingtalk": 3.5, "wecom": 3.5, "feishu": 1.0, "slack": 1.1, "webhook": 0.1}
# Of an answer; that of a robot has some hundred.
ANSWER_BYTES_MAX = 16 * 1024
# After a robot has said that it gets too much.
TOO_MUCH_SECONDS = 60.0

# What the codes in the bodies of robots mean; what a robot writes is not repeated in logs.
_MEANINGS: dict[tuple[Kind, int], str] = {
    ("dingtalk", 310000): "the signature, a keyword or the address was not accepted",
    ("dingtalk", 300001): "the token in the URL is not known",
    ("dingtalk", 130101): "it gets too much",
    ("wecom", 93000): "the key in the URL is not known",
    ("wecom", 45009): "it gets too much",
    ("wecom", 40058): "the message is not as it has to be",
    ("feishu", 19021): "the signature was not accepted, or the clocks differ",
    ("feishu", 19022): "the address was not accepted",
    ("feishu", 19024): "no keyword of it is in the message",
    ("feishu", 11232): "it gets too much",
    ("feishu", 9499): "the message is not as it has to be",
}
_TOO_MUCH = frozenset({("dingtalk", 130101), ("wecom", 45009), ("feishu", 11232)})
# Characters that markup would read, and what stands for them.
_MARKDOWN = str.maketrans({"[": "［", "]": "］", "<": "＜", ">": "＞", "*": "＊", "`": "ˋ", "\\": "＼"})
_SLACK = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Content(NamedTuple):
    """What a message has to say."""

    labels: tuple[tuple[str, str], ...]
    alerts: Sequence[Alert]
    more: int = 0
    repeats: int = 0


class Request(NamedTuple):
    """A call: with the first `alerts` of the content."""

    url: URL
    headers: dict[str, str]
    body: bytes
    alerts: int


def make_request(receiver: Receiver, content: Content, now_ms: int) -> Request:
    """The call of a content, signed now."""
    return _MAKERS[receiver.kind](receiver, content, now_ms)


def answers_in_body(kind: Kind) -> bool:
    """Whether the body of an answer says more than its status."""
    return kind not in ("slack", "webhook")


def judge(kind: Kind, result: CallResult, body: bytes) -> CallResult:
    """The result with the error of the answer's body, if it has one."""
    if not result.ok or not answers_in_body(kind):
        return result
    field = "code" if kind == "feishu" else "errcode"
    try:
        answer = msgspec.json.decode(body)
        code = answer.get(field, answer.get("StatusCode")) if kind == "feishu" else answer.get(field)
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError):
        code = None
    if not isinstance(code, int):
        return CallResult(0, f"the answer is not one of a robot of {kind}")
    if code == 0:
        return result
    meaning = _MEANINGS.get((kind, code))
    pause = TOO_MUCH_SECONDS if (kind, code) in _TOO_MUCH else None
    return CallResult(0, f"{field} {code}" + (f": {meaning}" if meaning else ""), pause)


def dingtalk_signature(secret: str, timestamp_ms: int) -> str:
    """`sign` of the query, before it is escaped."""
    return _base64_hmac(secret.encode(), f"{timestamp_ms}\n{secret}".encode())


def feishu_signature(secret: str, timestamp: int) -> str:
    """`sign` of the body: the text is the key, and nothing is signed."""
    return _base64_hmac(f"{timestamp}\n{secret}".encode(), b"")


def _base64_hmac(key: bytes, text: bytes) -> str:
    return base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def _texts(receiver: Receiver, content: Content, escape: Callable[[str], str]) -> tuple[str, list[str]]:
    """Title and lines, escaped, within the limits of the kind; what does not fit is counted in a last line."""
    language = receiver.language
    title = escape(title_of(content.labels, content.alerts, content.more, language)[:TITLE_CHARACTERS_MAX])
    room = TEXT_BYTES_MAX[receiver.kind] - len(title.encode()) - 200  # for the notes
    lines: list[str] = []
    for alert in content.alerts[:LINES_MAX]:
        line = escape(line_of(alert, language, receiver.zone))
        room -= len(line.encode()) + 4  # its markup
        if room < 0:
            break
        lines.append(line)
    left_out = len(content.alerts) - len(lines) + content.more
    return title, [*lines, *notes_of(left_out, content.repeats, language)]


def _escape_markdown(text: str) -> str:
    return text.translate(_MARKDOWN)


def _escape_slack(text: str) -> str:
    return "".join(_SLACK.get(each, each) for each in text)


def _dingtalk(receiver: Receiver, content: Content, now_ms: int) -> Request:
    title, lines = _texts(receiver, content, _escape_markdown)
    text = "\n".join([f"### {title}", "", *(f"- {line}" for line in lines)])
    url = URL(receiver.url)
    if receiver.secret:
        url = url.update_query(timestamp=str(now_ms), sign=dingtalk_signature(receiver.secret, now_ms))
    return _json(url, {"msgtype": "markdown", "markdown": {"title": title, "text": text}}, content)


def _wecom(receiver: Receiver, content: Content, now_ms: int) -> Request:
    title, lines = _texts(receiver, content, _escape_markdown)
    text = "\n".join([f"**{title}**", *(f"> {line}" for line in lines)])
    return _json(URL(receiver.url), {"msgtype": "markdown", "markdown": {"content": text}}, content)


def _feishu(receiver: Receiver, content: Content, now_ms: int) -> Request:
    title, lines = _texts(receiver, content, str)
    language = "zh_cn" if receiver.language == "zh" else "en_us"
    paragraphs = [[{"tag": "text", "text": line}] for line in lines]
    body: dict[str, Any] = {
        "msg_type": "post",
        "content": {"post": {language: {"title": title, "content": paragraphs}}},
    }
    if receiver.secret:
        seconds = now_ms // 1000
        body = {"timestamp": str(seconds), "sign": feishu_signature(receiver.secret, seconds), **body}
    return _json(URL(receiver.url), body, content)


def _slack(receiver: Receiver, content: Content, now_ms: int) -> Request:
    title, lines = _texts(receiver, content, _escape_slack)
    plain = title_of(content.labels, content.alerts, content.more, receiver.language)[:TITLE_CHARACTERS_MAX]
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": plain}},
        {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(f"• {line}" for line in lines) or title}},
    ]
    return _json(URL(receiver.url), {"text": title, "blocks": blocks}, content)


def _webhook(receiver: Receiver, content: Content, now_ms: int) -> Request:
    """As many alerts as the body takes; the call with the last of them tells what is left out."""
    rows: list[msgspec.Raw] = []
    size = 0
    for alert in content.alerts:
        size += len(bytes(alert.row)) + 1
        if rows and size > BODY_BYTES_MAX - 2_000:  # for the group
            break
        rows.append(alert.row)
    is_last = len(rows) == len(content.alerts)
    body = msgspec.json.encode(
        {
            "type": "alerts.raised",
            "group": dict(content.labels),
            "items": rows,
            "more": content.more if is_last else 0,
            "repeats": content.repeats if is_last else 0,
        }
    )
    seconds, message_id = now_ms // 1000, _message_id(receiver, body)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": sign((receiver.secret,), message_id, seconds, body),
    }
    return Request(URL(receiver.url), headers, body, len(rows))


def _message_id(receiver: Receiver, body: bytes) -> str:
    """The same for every attempt of the same content."""
    return f"alr_{hashlib.sha256(receiver.name.encode() + bytes(1) + body).hexdigest()[:32]}"


def _json(url: URL, body: object, content: Content) -> Request:
    return Request(url, {}, msgspec.json.encode(body), len(content.alerts))


_MAKERS: dict[Kind, Callable[[Receiver, Content, int], Request]] = {
    "dingtalk": _dingtalk,
    "wecom": _wecom,
    "feishu": _feishu,
    "slack": _slack,
    "webhook": _webhook,
}
