"""The types of alerts: how urgent each is, and its name in English and Chinese.

In: a type of a row of `alerts`. Out: its `AlertType`; one that this version does not know is a warning under its own
name.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Severity = Literal["critical", "warning", "info"]
Language = Literal["en", "zh"]


class AlertType(Struct, frozen=True):
    """A type. `units_*` say what `quantity` counts; without them it is not shown."""

    severity: Severity
    en: str
    zh: str
    units_en: str = ""
    units_zh: str = ""

    def name(self, language: Language) -> str:
        """Its name."""
        return self.zh if language == "zh" else self.en

    def units(self, language: Language) -> str:
        """What the quantity counts."""
        return self.units_zh if language == "zh" else self.units_en


# Critical: units are promised that are not there, numbers are wrong, or something stands still. Info: nobody has to do
# anything.
ALERT_TYPES: dict[str, AlertType] = {
    "shortfall": AlertType("critical", "shortfall", "库存缺口", "missing", "缺"),
    "sold_short": AlertType("critical", "sold short", "超卖", "missing", "缺"),
    "on_hand_negative": AlertType("critical", "on hand below zero", "实物库存为负", "on hand", "实物"),
    "damaged_negative": AlertType("critical", "damaged below zero", "残次库存为负", "damaged", "残次"),
    "preorders_unbacked": AlertType("critical", "preorders without supply", "预售无货可依", "missing", "缺"),
    "drift": AlertType("critical", "drift between log, tables and Redis", "账目不一致", "differences", "处差异"),
    "stalled": AlertType("critical", "standstill", "处理停滞", "waiting", "待处理"),
    "unreadable_batch": AlertType("critical", "unreadable batch", "批次无法读取"),
    "row_refused": AlertType("critical", "row refused by Kafka", "Kafka 拒收记录"),
    "wait_failed": AlertType("critical", "waiting event failed", "等待中的事件失败"),
    "low_stock": AlertType("warning", "low stock", "库存偏低", "available", "可售"),
    "dead_letter_burst": AlertType("warning", "burst of dead letters", "死信激增", "within a minute", "条/分钟"),
    "waiting_for_order": AlertType("warning", "event waiting for 15 minutes", "事件等待超过 15 分钟"),
    "receipt_overdue": AlertType("warning", "receipt overdue", "到货逾期", "to come", "待到货"),
    "key_expiring": AlertType("warning", "key expires soon", "密钥即将到期", "days", "天"),
    "webhook_disabled": AlertType("warning", "webhook disabled", "Webhook 已停用"),
    "paid_after_expiry": AlertType("warning", "paid after expiry", "过期后付款"),
    "shipped_beyond_order": AlertType("warning", "shipped beyond the order", "发货超出订单", "units", "件"),
    "already_counted": AlertType("warning", "movement before a count", "变动早于盘点", "units", "件"),
    "count_parts_missing": AlertType("warning", "parts of a count missing", "盘点分片缺失"),
    "preorder_cap_exceeded": AlertType("warning", "preorders beyond the cap", "预售超过上限", "units", "件"),
    "fill_too_large": AlertType("warning", "order too large to be filled", "订单过大无法分配"),
    "approval_waiting": AlertType("warning", "approval waiting", "等待审批"),
    "approval_expired": AlertType("warning", "approval expired", "审批已过期"),
    "choice_due": AlertType("warning", "shopper's choice due", "待买家选择"),
    "alerts_omitted": AlertType("warning", "alerts left out", "省略的告警", "left out", "条未列出"),
    "mode_switched": AlertType("info", "mode switched", "销售模式切换", "offered", "可售"),
    "rerouted": AlertType("info", "order rerouted", "订单改仓", "units", "件"),
    "stall_over": AlertType("info", "standstill over", "停滞结束"),
}


def alert_type(name: str) -> AlertType:
    """The type of this name."""
    return ALERT_TYPES.get(name) or AlertType("warning", name, name, "quantity", "数量")
