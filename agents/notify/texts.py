"""The words of a message, in English and Chinese.

In: a message's labels and alerts. Out: a title and lines without markup, each of bounded length. Names and details come
from others, so that each robot escapes what its own markup would read.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from zoneinfo import ZoneInfo

import msgspec

from stocktide.agents.notify.routing import Alert
from stocktide.streams.contract.alert_types import Language, alert_type
from stocktide.streams.contract.events import Time
from stocktide.streams.contract.times import EPOCH, ms_of

# Characters of one value: a name has 128 at most, a detail may be long.
VALUE_CHARACTERS_MAX = 300

_WORDS: dict[str, tuple[str, str]] = {
    "type": ("type", "类型"),
    "severity": ("severity", "级别"),
    "channel": ("channel", "渠道"),
    "sku": ("SKU", "SKU"),
    "warehouse": ("warehouse", "仓库"),
    "order": ("order", "订单"),
    "event": ("event", "事件"),
    "alerts": ("alerts", "条告警"),
    "critical": ("critical", "严重"),
    "warning": ("warning", "警告"),
    "info": ("info", "提示"),
    "in_stock": ("in stock", "现货"),
    "preorder": ("preorder", "预售"),
    "sold_out": ("sold out", "售罄"),
    "suspended": ("suspended", "停售"),
}
_MORE = ("and {count} more", "另有 {count} 条")
_REPEATS = ("{count} repeats are left out", "已省略 {count} 条重复")


def word(name: str, language: Language) -> str:
    """A word of the table; a name that is not there stays as it is."""
    return _WORDS.get(name, (name, name))[language == "zh"]


def title_of(labels: Iterable[tuple[str, str]], alerts: Iterable[Alert], more: int, language: Language) -> str:
    """`Stocktide: 3 × low stock, channel jd`. It names Stocktide, which a robot may want as its keyword."""
    found = list(alerts)
    names = dict.fromkeys(alert_type(each.type).name(language) for each in found)
    what = "、".join(names) if language == "zh" else ", ".join(names)
    where = [f"{word(name, language)} {plain(value)}" for name, value in labels if value and name not in _SHOWN]
    parts = [f"{len(found) + more} × {what or word('alerts', language)}", *where]
    return "Stocktide：" + "，".join(parts) if language == "zh" else "Stocktide: " + ", ".join(parts)


# Labels that a title shows in its own way.
_SHOWN = ("type", "severity")


def line_of(alert: Alert, language: Language, zone: ZoneInfo) -> str:
    """One alert as one line."""
    kind = alert_type(alert.type)
    urgency = word(kind.severity, language)
    parts = [f"{kind.name(language)}（{urgency}）" if language == "zh" else f"{kind.name(language)} ({urgency})"]
    parts += [
        f"{word(name, language)} {plain(value)}"
        for name, value in (
            ("sku", alert.sku),
            ("channel", alert.channel),
            ("warehouse", alert.warehouse),
            ("order", alert.order_id),
            ("event", alert.event_id),
        )
        if value
    ]
    if alert.mode:
        parts.append(f"{word(str(alert.mode_before or ''), language)} → {word(str(alert.mode), language)}")
    if alert.quantity is not None and (units := kind.units(language)):
        parts.append(f"{units} {alert.quantity}" if language == "zh" else f"{alert.quantity} {units}")
    if said := plain(str(alert.detail or alert.reason or "")):
        parts.append(said)
    parts.append(_local_time(alert.at, zone))
    return " · ".join(parts)


def notes_of(more: int, repeats: int, language: Language) -> list[str]:
    """What a message leaves out."""
    notes = [(_MORE, more), (_REPEATS, repeats)]
    return [texts[language == "zh"].format(count=count) for texts, count in notes if count]


def plain(value: object) -> str:
    """A value on one line, of bounded length, without control characters."""
    text = " ".join("".join(each if each.isprintable() else " " for each in str(value)).split())
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"


def _local_time(at: str, zone: ZoneInfo) -> str:
    try:
        moment = EPOCH + timedelta(milliseconds=ms_of(msgspec.convert(at, Time)))
    except (msgspec.ValidationError, OverflowError):
        return plain(at)
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")
