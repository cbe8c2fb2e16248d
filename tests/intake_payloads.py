"""Sample payloads of the platforms, composed from the documented fields, and their signatures.

In: values of a test. Out: bodies, headers and queries of signed webhooks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

SECRET = "a-secret-of-the-tests"
# Above 2^53: a double does not hold it.
LARGE_ID = 9_007_199_254_740_993


@dataclass(frozen=True, slots=True)
class Webhook:
    """A call as a platform makes it."""

    name: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)


def _hmac(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def shopify(topic: str, payload: Any, secret: str = SECRET, **headers: str) -> Webhook:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Webhook("shopify", body, {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": _hmac(body, secret), **headers})


def shopify_order(order_id: int, sku: str | None = "MUG", quantity: int = 2, **more: Any) -> dict[str, Any]:
    line = {"id": 11, "sku": sku, "variant_id": 77, "quantity": quantity, "requires_shipping": True}
    created = "2026-11-11T08:00:00+08:00"
    order = {"id": order_id, "created_at": created, "financial_status": "pending", "cancelled_at": None}
    return {**order, "line_items": [line], **more}


def shopify_refund(order_id: int, refund_id: int, **line: Any) -> dict[str, Any]:
    lines = [{"quantity": 1, "restock_type": "cancel", "location_id": 5, "line_item": {"sku": "MUG"}, **line}]
    return {"id": refund_id, "order_id": order_id, "created_at": "2026-11-12T00:00:00Z", "refund_line_items": lines}


def woocommerce(
    status: str | None, order_id: int = 12, sku: str = "", quantity: int = 3, delivery: str = "d1", **more: Any
) -> Webhook:
    line = {"sku": sku, "product_id": 5, "variation_id": 0, "quantity": quantity}
    order: dict[str, Any] = {"id": order_id}
    if status is not None:
        dates = {"date_created_gmt": "2026-11-11T00:00:00", "date_modified_gmt": "2026-11-11T01:00:00"}
        order |= {"status": status, **dates, "line_items": [line], **more}
    body = json.dumps(order).encode()
    topic = "order.updated" if status is not None else "order.deleted"
    signed = {"X-WC-Webhook-Topic": topic, "X-WC-Webhook-Signature": _hmac(body, SECRET)}
    return Webhook("woocommerce", body, {**signed, "X-WC-Webhook-Delivery-ID": delivery})


def youzan(
    kind: str,
    tid: str = "E2026",
    *,
    full: bool = True,
    sku: str = "MUG",
    message: str = "",
    test: bool = False,
    **info: Any,
) -> Webhook:
    order = {"tid": tid, "status": "WAIT_BUYER_PAY", "created": "2026-11-11 08:00:00"}
    order |= {"expired_time": "2026-11-11 08:30:00", "update_time": "2026-11-11 09:00:00", **info}
    lines = [{"oid": "1", "outer_sku_id": sku, "sku_id": 3, "item_id": 4, "num": 2}]
    inner = {"full_order_info": {"order_info": order, "orders": lines}} if full else {"tid": tid}
    msg = quote(json.dumps(inner))
    sign = hashlib.md5(f"client{msg}{SECRET}".encode()).hexdigest()
    body = {
        "id": message or tid,
        "client_id": "client",
        "type": kind,
        "mode": 1,
        "msg": msg,
        "sign": sign,
        "test": test,
    }
    return Webhook("youzan", json.dumps(body).encode())


def qimen(method: str, xml: str, at: str = "2026-11-11 08:00:00") -> Webhook:
    query = {"method": f"taobao.qimen.{method}", "timestamp": at, "format": "xml", "v": "2.0"}
    query |= {"app_key": "0", "customerId": "c1", "sign_method": "md5", "empty": ""}
    pairs = "".join(name + value for name, value in sorted(query.items()) if value)
    signed = f"{SECRET}{pairs}{xml}{SECRET}".encode()
    return Webhook("qimen", xml.encode(), {}, {**query, "sign": hashlib.md5(signed).hexdigest().upper()})


def qimen_lines(sku: str, quantity: int, kind: str = "ZP", field_name: str = "planQty") -> str:
    line = f"<itemCode>{sku}</itemCode><{field_name}>{quantity}</{field_name}><inventoryType>{kind}</inventoryType>"
    return f"<orderLines><orderLine>{line}</orderLine></orderLines>"


def qimen_confirmation(
    method: str, document: str, head: str, sku: str = "MUG", quantity: int = 2, units: str = "ZP", at: str = ""
) -> Webhook:
    """What a warehouse did, with the fields of `document` (`deliveryOrder` …) in `head`."""
    lines = qimen_lines(sku, quantity, units, "actualQty")
    head += "<warehouseCode>SH1</warehouseCode>"
    return qimen(method, f"<request><{document}>{head}</{document}>{lines}</request>", at or "2026-11-11 09:00:00")


def qimen_order(
    code: str,
    sku: str = "MUG",
    quantity: int = 2,
    kind: str = "JYCK",
    units: str = "ZP",
    at: str = "2026-11-11 08:00:00",
) -> Webhook:
    head = (
        f"<deliveryOrderCode>{code}</deliveryOrderCode><orderType>{kind}</orderType><warehouseCode>SH1</warehouseCode>"
    )
    head += "<payTime>2026-11-11 08:00:00</payTime>"
    lines = qimen_lines(sku, quantity, units)
    return qimen("deliveryorder.create", f"<request><deliveryOrder>{head}</deliveryOrder>{lines}</request>", at)


def douyin(status: int, order_id: int = LARGE_ID, message: str = "m1") -> Webhook:
    data = {"p_id": order_id, "s_ids": [1], "shop_id": 9, "order_status": status, "pay_time": 1_762_819_200}
    body = json.dumps([{"tag": "100", "msg_id": message, "data": json.dumps(data)}]).encode()
    sign = hashlib.md5(b"app" + body + SECRET.encode()).hexdigest()
    return Webhook("douyin", body, {"app-id": "app", "event-sign": sign})
