"""Webhooks of platforms become input events, or are rejected with the path."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from stocktide.agents.mapping.agent import Mapper
from stocktide.streams.mapping.envelope import Envelope
from stocktide.streams.mapping.mapping_reader import FOLDER, MappingError, load_mappings, read_mapping
from stocktide.streams.mapping.unwrap import DEPTH_MAX, Unreadable, read_document
from stocktide.streams.mapping.verify import is_signed
from tests.intake_payloads import (
    LARGE_ID,
    SECRET,
    Webhook,
    douyin,
    qimen,
    qimen_confirmation,
    qimen_lines,
    qimen_order,
    shopify,
    shopify_order,
    shopify_refund,
    woocommerce,
    youzan,
)

MAPPINGS = load_mappings()


def envelope_of(webhook: Webhook) -> Envelope:
    headers = {name.lower(): value for name, value in webhook.headers.items()}
    return Envelope(webhook.name, 1_800_000_000_000, headers, webhook.query, webhook.body)


async def events_of(webhook: Webhook) -> list[dict[str, Any]]:
    events, rejections = await Mapper(MAPPINGS[webhook.name]).map(envelope_of(webhook))
    assert not rejections, rejections
    return [json.loads(event.raw) for event in events]


async def rejection_of(webhook: Webhook) -> tuple[str, str | None]:
    events, rejections = await Mapper(MAPPINGS[webhook.name]).map(envelope_of(webhook))
    assert not events
    (rejection,) = rejections
    return rejection.code, rejection.path


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_a_shopify_order_is_placed_as_sold_in_its_channel() -> None:
    (placed,) = await events_of(shopify("orders/create", shopify_order(LARGE_ID)))
    assert placed == {
        "type": "order.placed",
        "id": f"shopify-{LARGE_ID}-placed",
        "order_id": f"shopify-{LARGE_ID}",
        "occurred_at": "2026-11-11T00:00:00.000Z",
        "channel": "shopify",
        "accept": "sold",
        "hold_seconds": 604_800,
        "lines": [{"sku": "MUG", "quantity": 2}],
    }


async def test_a_shopify_order_that_is_paid_or_cancelled_says_so() -> None:
    paid = await events_of(shopify("orders/paid", shopify_order(1, financial_status="paid")))
    assert types(paid) == ["order.placed", "order.paid"]
    cancelled = shopify_order(1, cancelled_at="2026-11-12T00:00:00Z")
    assert types(await events_of(shopify("orders/cancelled", cancelled))) == ["order.placed", "order.cancelled"]


@pytest.mark.parametrize("missing", [None, ""])
async def test_a_shopify_line_without_a_sku_has_its_variant(missing: str | None) -> None:
    (placed,) = await events_of(shopify("orders/create", shopify_order(1, sku=missing)))
    assert placed["lines"] == [{"sku": "77", "quantity": 2}]


async def test_a_shopify_order_without_goods_causes_nothing() -> None:
    order = shopify_order(1, financial_status="paid")
    order["line_items"][0]["requires_shipping"] = False
    assert await events_of(shopify("orders/paid", order)) == []


@pytest.mark.parametrize(("restock", "expected"), [("cancel", "order.cancelled"), ("return", "order.returned")])
async def test_a_shopify_refund_gives_units_back_by_its_restock_type(restock: str, expected: str) -> None:
    (event,) = await events_of(shopify("refunds/create", shopify_refund(1, 2, restock_type=restock)))
    assert (event["type"], event["order_id"]) == (expected, "shopify-1")
    assert event["id"] == f"shopify-1-2-{expected.partition('.')[2]}"
    assert event["lines"][0].get("warehouse") == ("5" if restock == "return" else None)


async def test_removed_units_of_a_shopify_order_are_reported_as_a_total() -> None:
    order = shopify_order(1, quantity=5)
    line = order["line_items"][0]
    line["current_quantity"] = 1
    _, removed = await events_of(shopify("orders/updated", order))
    assert (removed["type"], removed["removal"]) == ("order.cancelled", "total")
    assert removed["lines"] == [{"sku": "MUG", "quantity": 4}]
    # Units of refunds that give nothing back, or bring back what was sent, are no removal.
    kinds = (("cancel", 1), ("return", 1), ("no_restock", 1))
    lines = [{"line_item_id": line["id"], "quantity": units, "restock_type": kind} for kind, units in kinds]
    lines.append({"line_item_id": 99, "quantity": 1, "restock_type": "return"})
    order["refunds"] = [{"id": 7, "refund_line_items": lines[:2]}, {"id": 8, "refund_line_items": lines[2:]}]
    _, fewer = await events_of(shopify("orders/updated", order))
    assert fewer["lines"] == [{"sku": "MUG", "quantity": 2}]
    assert fewer["id"] != removed["id"]
    line["current_quantity"] = 6
    assert types(await events_of(shopify("orders/updated", order))) == ["order.placed"]


async def test_a_shopify_refund_without_restock_brings_nothing_back() -> None:
    refund = shopify_refund(1, 2, restock_type="no_restock", location_id=None)
    assert await events_of(shopify("refunds/create", refund)) == []


async def test_unknown_words_and_missing_fields_are_rejected_with_their_path() -> None:
    assert await rejection_of(shopify("orders/edited", {})) == ("unknown_word", "header:X-Shopify-Topic")
    refund = shopify_refund(1, 2, restock_type="legacy_restock")
    found = await rejection_of(shopify("refunds/create", refund))
    assert found == ("unknown_word", "refund_line_items[0].restock_type")
    order = shopify_order(1, sku=None)
    order["line_items"][0]["variant_id"] = None
    assert await rejection_of(shopify("orders/create", order)) == ("missing_field", "line_items[0].sku")
    no_lines = {"id": 1, "created_at": "2026-11-11T00:00:00Z"}
    assert await rejection_of(shopify("orders/create", no_lines)) == ("missing_field", "line_items")
    status = shopify_order(1, financial_status="owed")
    assert await rejection_of(shopify("orders/create", status)) == ("unknown_word", "financial_status")
    assert (await rejection_of(woocommerce("invented")))[0] == "unknown_word"
    assert (await rejection_of(youzan("trade_TradePaid", status="NEW"))) == (
        "unknown_word",
        "msg.full_order_info.order_info.status",
    )
    thin = await rejection_of(youzan("trade_TradePaid", full=False))
    assert thin[0] == "missing_field"
    assert (await rejection_of(qimen_order("D1", kind="QTCK"))) == ("unknown_word", "deliveryOrder.orderType")
    assert (await rejection_of(qimen_order("D1", units="CC"))) == (
        "unknown_word",
        "orderLines.orderLine[0].inventoryType",
    )


@pytest.mark.parametrize("quantity", [0.5, "2x", True, None, -1])
async def test_a_quantity_that_is_no_number_of_units_is_rejected(quantity: Any) -> None:
    order = shopify_order(1, quantity=quantity)
    code, _ = await rejection_of(shopify("orders/create", order))
    assert code in ("invalid_field", "missing_field")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("pending", ["order.placed"]),
        ("on-hold", ["order.placed"]),
        ("processing", ["order.placed", "order.paid"]),
        ("completed", ["order.placed", "order.paid"]),
        ("cancelled", ["order.placed", "order.cancelled"]),
        ("failed", ["order.placed", "order.cancelled"]),
        ("checkout-draft", []),
        (None, ["order.cancelled"]),
    ],
)
async def test_a_woocommerce_order_is_mapped_by_its_status(status: str | None, expected: list[str]) -> None:
    events = await events_of(woocommerce(status))
    assert types(events) == expected
    for placed in events[:1] if status and expected else []:
        assert placed["lines"] == [{"sku": "5", "quantity": 3}]
        assert placed["occurred_at"] == "2026-11-11T00:00:00.000Z"


async def test_a_youzan_order_is_held_until_it_expires_and_dated_in_china() -> None:
    (placed,) = await events_of(youzan("trade_TradeCreate"))
    assert placed["hold_seconds"] == 1800
    assert placed["occurred_at"] == "2026-11-11T00:00:00.000Z"
    assert placed["order_id"] == "youzan-E2026"
    paid = await events_of(youzan("trade_TradePaid", status="TRADE_PAID", pay_time="2026-11-11 08:10:00"))
    assert types(paid) == ["order.placed", "order.paid"]
    assert paid[0] == placed
    assert paid[1]["occurred_at"] == "2026-11-11T00:10:00.000Z"
    closed = await events_of(youzan("trade_TradeClose", status="TRADE_CLOSED"))
    assert types(closed) == ["order.placed", "order.cancelled"]
    assert await events_of(youzan("trade_TradeSuccess")) == []


async def test_a_qimen_order_is_placed_and_paid() -> None:
    (placed,) = await events_of(qimen_order("D1"))
    assert placed["paid"] is True
    assert placed["lines"] == [{"sku": "MUG", "quantity": 2}]
    assert placed["occurred_at"] == "2026-11-11T00:00:00.000Z"


@pytest.mark.parametrize("method", ["deliveryorder.confirm", "stockout.confirm"])
async def test_a_qimen_confirmation_ships_the_order(method: str) -> None:
    head = "<deliveryOrderCode>D1</deliveryOrderCode><orderType>JYCK</orderType><warehouseCode>SH1</warehouseCode>"
    head += "<outBizCode>B7</outBizCode>"
    lines = qimen_lines("MUG", 2, field_name="actualQty")
    (event,) = await events_of(qimen(method, f"<request><deliveryOrder>{head}</deliveryOrder>{lines}</request>"))
    assert (event["type"], event["id"]) == ("order.shipped", "qimen-D1-B7-shipped")
    assert event["lines"] == [{"sku": "MUG", "quantity": 2, "warehouse": "SH1"}]


async def test_what_leaves_a_qimen_warehouse_for_no_customer_is_adjusted() -> None:
    head = "<deliveryOrderCode>T1</deliveryOrderCode><orderType>DBCK</orderType>"
    (event,) = await events_of(qimen_confirmation("stockout.confirm", "deliveryOrder", head))
    assert (event["type"], event["id"], event["reason"]) == ("stock.adjusted", "qimen-T1-T1-adjusted", "DBCK")
    assert event["lines"] == [{"sku": "MUG", "quantity": -2}]
    assert await events_of(qimen_confirmation("stockout.confirm", "deliveryOrder", head.replace("DBCK", "XNCK"))) == []


async def test_a_qimen_confirmation_that_moved_nothing_causes_nothing() -> None:
    head = "<deliveryOrderCode>D1</deliveryOrderCode><orderType>JYCK</orderType>"
    for status in ("ACCEPT", "CANCELED", "REJECT"):
        confirmation = qimen_confirmation("deliveryorder.confirm", "deliveryOrder", f"{head}<status>{status}</status>")
        assert await events_of(confirmation) == []
    entry = "<entryOrderCode>E1</entryOrderCode><status>{}</status>"
    assert await events_of(qimen_confirmation("entryorder.confirm", "entryOrder", entry.format("CANCELED"))) == []
    odd = await rejection_of(qimen_confirmation("entryorder.confirm", "entryOrder", entry.format("EXCEPTION")))
    assert odd == ("unknown_word", "entryOrder.status")
    for kind in ("CC", "JS", "XS"):
        damaged = qimen_confirmation("entryorder.confirm", "entryOrder", entry.format("FULFILLED"), units=kind)
        assert await events_of(damaged) == []


async def test_a_qimen_receipt_and_a_return_reach_the_warehouse() -> None:
    head = "<entryOrderCode>E1</entryOrderCode><warehouseCode>SH1</warehouseCode>"
    lines = qimen_lines("MUG", 5, field_name="actualQty")
    xml = f"<request><entryOrder>{head}</entryOrder>{lines}</request>"
    (received,) = await events_of(qimen("entryorder.confirm", xml))
    assert (received["type"], received["warehouse"]) == ("stock.received", "SH1")
    assert received["lines"] == [{"sku": "MUG", "quantity": 5}]
    head = "<returnOrderCode>R1</returnOrderCode><preDeliveryOrderCode>D1</preDeliveryOrderCode>"
    head += "<warehouseCode>SH1</warehouseCode>"
    lines = qimen_lines("MUG", 1, "CC", "actualQty")
    xml = f"<request><returnOrder>{head}</returnOrder>{lines}</request>"
    (returned,) = await events_of(qimen("returnorder.confirm", xml))
    assert (returned["type"], returned["order_id"]) == ("order.returned", "qimen-D1")
    assert returned["lines"] == [{"sku": "MUG", "quantity": 1, "warehouse": "SH1", "condition": "damaged"}]


@pytest.mark.parametrize(
    "webhook",
    [shopify("orders/create", {}), woocommerce("pending"), youzan("trade_TradePaid"), qimen_order("D1"), douyin(1)],
    ids=lambda webhook: webhook.name,
)
def test_only_the_secret_signs_and_only_the_whole_body(webhook: Webhook) -> None:
    mapping, envelope = MAPPINGS[webhook.name], envelope_of(webhook)
    assert is_signed(mapping, [SECRET], envelope)
    assert is_signed(mapping, ["new", SECRET], envelope)
    assert not is_signed(mapping, ["other"], envelope)
    bare = Envelope(envelope.name, 0, {}, {}, b"{}")
    assert not is_signed(mapping, [SECRET], bare)
    at = envelope.body.index(b'"msg": "') + 8 if webhook.name == "youzan" else 0
    changed = envelope.body[:at] + b" " + envelope.body[at:]
    forged = Envelope(envelope.name, 0, envelope.headers, envelope.query, changed)
    assert not is_signed(mapping, [SECRET], forged)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b'{"a":' * 40 + b"1" + b"}" * 40, b'{"id":NaN}', b"\xff\xfe", b"9" * 5000],
)
async def test_a_body_that_cannot_be_read_is_rejected(body: bytes) -> None:
    assert (await rejection_of(shopify("orders/create", body)))[0] in ("malformed_body", "missing_field")


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        "<a>" * 5000,
        "<a>" * 100 + "</a>" * 100,
        "text",
    ],
)
async def test_an_xml_bomb_is_rejected(xml: str) -> None:
    assert (await rejection_of(qimen("deliveryorder.create", xml)))[0] == "malformed_body"


def test_repeated_elements_are_read_in_a_time_that_grows_with_their_number() -> None:
    started = time.process_time()
    document = read_document(MAPPINGS["qimen"], b"<r><b>1</b>" + b"<a/>" * 100_000 + b"<b>2</b></r>")
    assert document == {"b": ["1", "2"], "a": [""] * 100_000}
    assert time.process_time() - started < 10.0, "a list that is copied for each element takes a minute"


@pytest.mark.parametrize(("depth", "is_read"), [(DEPTH_MAX + 1, True), (DEPTH_MAX + 2, False)])
def test_elements_are_read_down_to_the_greatest_depth(depth: int, is_read: bool) -> None:
    body = b"<a>" * depth + b"</a>" * depth
    if is_read:
        assert read_document(MAPPINGS["qimen"], body)
    else:
        with pytest.raises(Unreadable, match="nested more than 32 deep"):
            read_document(MAPPINGS["qimen"], body)


RECEIPT = """
name: own
verify: {kind: hmac-sha256, signature: "header:S"}
choose: kind
order_id: ref
choices:
  - words: [in]
    events:
      - type: stock.received
        occurred_at: received
        id: [ref]
        fields: {warehouse: wh}
        lines: {path: lines, sku: sku, quantity: count}
"""
RETURNED = """
      - type: order.returned
        occurred_at: received
        lines: {path: lines, sku: sku, quantity: count, condition: {path: state, words: {A: sellable, B: broken}}}
"""


def test_a_condition_that_the_contract_does_not_have_is_found_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"events\[1\].lines.condition.words.B`: .*: one of damaged, sellable"):
        read_mapping(write_mapping(tmp_path, RECEIPT.rstrip() + RETURNED))


def write_mapping(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("zone: UTC", "zone: Mars/Base", "zone"),
        ("order_id: id", "order_id: 'id['", r"`order_id`: 'id\[' is no JMESPath"),
        ("path: line_items", "path: '[['", r"`choices\[0\].events\[0\].lines.path`: '\[\[' is no JMESPath"),
        ("kind: hmac-sha256", "kind: rot13", "verify.kind: Invalid enum value 'rot13': one of hmac-sha256, md5, qimen"),
        ("type: order.placed", "type: order.plced", r"events\[0\].type: .* one of order.cancelled, .*, stock.received"),
        ("zone: UTC", "zone: UTC\nzone: Asia/Shanghai", r"own\.yaml: line \d+: the key 'zone' is in line \d+ already"),
        ("accept: sold", "accept: sld", r"`choices\[0\].events\[0\].constants.accept`: .* one of all, partial, sold"),
        ("hold_seconds: 604800", "hold_seconds: 7d", r"constants.hold_seconds`: Expected `int`, got `str`"),
        ("{accept: sold, hold_seconds: 604800}", "&same {accept: *same}", "own.yaml: it is nested too deeply"),
        ("hold_seconds: 604800", "hold_secs: 604800", r"constants.hold_secs`: order.placed has no such field"),
        ("zone: UTC", "zone: UTC\nchannel: a b", "channel: Expected `str` matching"),
        ("choose:", "chose:", "chose"),
        ("name: shopify", "name: ../x", "name"),
        ("name: shopify", "name: !!python/object/apply:os.system [id]", "python"),
    ],
)
def test_a_wrong_mapping_is_refused_with_what_is_wrong(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (FOLDER / "shopify.yaml").read_text()
    assert old in text
    with pytest.raises(MappingError, match=said):
        read_mapping(write_mapping(tmp_path, text.replace(old, new, 1)))


def test_two_files_of_one_folder_with_the_same_name_are_refused(tmp_path: Path) -> None:
    text = (FOLDER / "shopify.yaml").read_text()
    (tmp_path / "a.yml").write_text(text)
    assert load_mappings(tmp_path)["shopify"], "one of the package may be replaced"
    write_mapping(tmp_path, text)
    with pytest.raises(MappingError, match=r"own.yaml: name: 'shopify' is the name of a.yml already"):
        load_mappings(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("warehouse: wh", "note: wh", r"`choices\[0\].events\[0\].fields.note`: stock.received has no such field"),
        ("{warehouse: wh}", "{}", r"`choices\[0\].events\[0\]`: stock.received needs `warehouse`"),
    ],
)
def test_fields_that_an_event_does_not_have_or_lacks_are_found_in_the_file(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = RECEIPT.replace(old, new)
    read_mapping(write_mapping(tmp_path, RECEIPT))
    with pytest.raises(MappingError, match=said):
        read_mapping(write_mapping(tmp_path, text))


@pytest.mark.parametrize("url", ["http://example.com/", "ftp://x/", "http://127.0.0.1:1/", "https://a:b@x/", "x"])
def test_a_fetch_without_tls_is_refused(tmp_path: Path, url: str) -> None:
    text = (FOLDER / "douyin.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("  url:"))
    with pytest.raises(MappingError, match="not https"):
        read_mapping(write_mapping(tmp_path, text.replace(line, f"  url: {url}")))


async def test_a_local_time_without_a_zone_is_rejected(tmp_path: Path) -> None:
    path = write_mapping(tmp_path, (FOLDER / "shopify.yaml").read_text().replace("zone: UTC\n", ""))
    order = shopify_order(1, created_at="2026-11-11 08:00:00")
    _, (rejection,) = await Mapper(read_mapping(path)).map(envelope_of(shopify("orders/create", order)))
    assert (rejection.code, rejection.path) == ("invalid_field", "created_at")
