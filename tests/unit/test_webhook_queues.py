"""What an endpoint has to get: the newest state by SKU, batches, ids, and what a successor sends again."""

from __future__ import annotations

from typing import Any

import orjson

from stocktide.agents.webhooks import queues
from stocktide.agents.webhooks.queues import Acknowledged, Batch, OrderQueue, Progress, Queue, StockQueue
from stocktide.streams.webhooks.definition import Webhook


def webhook(**fields: Any) -> Webhook:
    known: dict[str, Any] = {"name": "w", "channel": "tmall", "url": "https://shop.example/", "batch": 100}
    known |= {"per_second": 10, "events": ("stock",), "secret": "whsec_", "epoch": "a-0", "revision": "r"}
    return Webhook(**{**known, **fields})


def update(sku: str, version: int, quantity: int = 1) -> bytes:
    return orjson.dumps({"channel": "tmall", "sku": sku, "quantity": quantity, "version": version})


def stock(*rows: tuple[str, int], **fields: Any) -> StockQueue:
    queue = StockQueue(webhook(**fields), 0)
    for sku, version in rows:
        queue.offer(sku, update(sku, version))
    queue.begin()
    return queue


def batch_of(queue: Queue) -> Batch:
    batch = queue.next_batch()
    assert batch is not None
    return batch


def content(queue: Queue) -> list[tuple[str, int]]:
    batch = queue.next_batch()
    return [] if batch is None else [(item["sku"], item["version"]) for item in orjson.loads(batch.body)["items"]]


def acknowledge(queue: StockQueue, batch: Batch) -> list[tuple[str, Acknowledged]]:
    return [(sku, Acknowledged(**orjson.loads(row))) for sku, row in queue.acknowledge(batch)]


def test_the_newest_state_of_each_sku_is_sent_once() -> None:
    queue = stock(("A", 1), ("B", 1), ("A", 2), ("A", 3))
    assert content(queue) == [("A", 3), ("B", 1)]
    acknowledge(queue, batch_of(queue))
    assert content(queue) == []
    queue.offer("A", update("A", 2))  # a former owner wrote it late
    queue.offer("A", update("A", 3))
    assert content(queue) == []


def test_another_content_of_the_same_version_corrects_it() -> None:
    queue = stock(("A", 1))
    acknowledge(queue, batch_of(queue))
    queue.offer("A", update("A", 1, quantity=9))
    assert content(queue) == [("A", 1)]


def test_nothing_is_sent_before_the_partition_was_read() -> None:
    queue = stock(("A", 1))
    queue.ready = False
    assert queue.next_batch() is None


def test_a_change_during_a_call_stays_pending() -> None:
    queue = stock(("A", 1))
    batch = batch_of(queue)
    queue.offer("A", update("A", 2))
    acknowledge(queue, batch)
    assert content(queue) == [("A", 2)]


def test_a_retry_has_the_same_id_and_leaves_out_a_sku_that_has_changed() -> None:
    queue = stock(("A", 1), ("B", 1), ("C", 1), batch=3)
    first = batch_of(queue)
    assert queue.sending(first) is not None
    queue.offer("D", update("D", 1))
    again = batch_of(queue)
    assert (again.id, again.body) == (first.id, first.body)
    assert queue.sending(again) is None
    queue.offer("A", update("A", 2))
    assert (content(queue), batch_of(queue).id) == ([("B", 1), ("C", 1)], first.id)
    assert queue.sending(batch_of(queue)) is None, "the row of the first attempt tells a successor enough"
    queue.offer("B", update("B", 2))
    assert (content(queue), batch_of(queue).id) == ([("C", 1)], first.id)
    acknowledge(queue, batch_of(queue))
    assert content(queue) == [("A", 2), ("B", 2), ("D", 1)]
    assert batch_of(queue).id != first.id


def test_a_batch_of_which_nothing_is_the_newest_is_not_sent_again() -> None:
    queue = stock(("A", 1), ("B", 1), batch=1)
    first = batch_of(queue)
    queue.sending(first)
    queue.offer("A", update("A", 2))
    assert content(queue) == [("A", 2)]
    assert batch_of(queue).id != first.id


def test_a_smaller_batch_is_not_a_part_of_the_one_that_was_sent_last_under_its_id() -> None:
    queue = stock(("A", 1), ("B", 1), ("C", 1))
    first = batch_of(queue)
    smaller = StockQueue(webhook(batch=2), 0, queue.sending(first))
    for sku in ("A", "B", "C"):
        smaller.offer(sku, update(sku, 1))
    smaller.begin()
    assert content(smaller) == [("A", 1), ("B", 1)]
    assert batch_of(smaller).id != first.id


def test_a_successor_sends_the_batch_of_its_predecessor_again_with_its_id() -> None:
    queue = stock(("A", 1), ("B", 1))
    sent = batch_of(queue)
    progress = queue.sending(sent)
    successor = StockQueue(webhook(), 0, progress)
    for sku in ("C", "B", "A"):
        successor.offer(sku, update(sku, 1))
    successor.begin()
    assert (batch_of(successor).id, batch_of(successor).body) == (sent.id, sent.body)


def test_a_successor_sends_nothing_of_what_was_acknowledged() -> None:
    queue = stock(("A", 4))
    batch = batch_of(queue)
    progress, rows = queue.sending(batch), acknowledge(queue, batch)
    successor = StockQueue(webhook(), 0, progress, rows)
    for version in (2, 3, 4):
        successor.offer("A", update("A", version))
    successor.begin()
    assert content(successor) == []


def test_a_replay_sends_everything_with_new_ids() -> None:
    queue = stock(("A", 4))
    batch = batch_of(queue)
    progress, rows = queue.sending(batch), acknowledge(queue, batch)
    replay = StockQueue(webhook(epoch="a-1"), 0, progress, rows)
    replay.offer("A", update("A", 4))
    replay.begin()
    assert content(replay) == [("A", 4)]
    assert batch_of(replay).id != batch.id


def test_an_id_has_no_dot_and_differs_by_webhook_and_partition() -> None:
    ids = set()
    for name, partition in (("w", 0), ("w", 1), ("a.b", 0)):
        queue = StockQueue(webhook(name=name), partition)
        queue.offer("S.K/U", update("S.K/U", 1))
        queue.begin()
        ids.add(batch_of(queue).id)
    assert len(ids) == 3 and not any("." in each for each in ids)


def test_a_body_stays_under_20_kb_and_a_batch_within_its_size() -> None:
    queue = stock(*((f"{number:0128}", 1) for number in range(300)), batch=250)
    seen: list[tuple[str, int]] = []
    while (batch := queue.next_batch()) is not None:
        assert len(batch.body) < 20_480
        seen += content(queue)
        acknowledge(queue, batch)
    assert len(seen) == len(set(seen)) == 300
    assert len(content(stock(*((str(number), 1) for number in range(30)), batch=20))) == 20


def test_filters_add_up() -> None:
    rows = (("A", 1), ("x-1", 1), ("B", 1))
    assert [sku for sku, _ in content(stock(*rows, skus=("A",)))] == ["A"]
    assert [sku for sku, _ in content(stock(*rows, prefix="x-"))] == ["x-1"]
    assert [sku for sku, _ in content(stock(*rows, prefix="x-", skus=("A",)))] == ["A", "x-1"]


def test_a_sku_that_is_removed_is_not_sent() -> None:
    queue = stock(("A", 1), ("B", 1))
    queue.offer("A", None)
    assert content(queue) == [("B", 1)]


def test_rows_of_skus_that_a_webhook_has_no_more_are_removed_once() -> None:
    rows = [(sku, Acknowledged("a-0", 1, 0)) for sku in ("here", "gone", "late")] + [("old", Acknowledged("z-0", 1, 0))]
    queue = StockQueue(webhook(), 0, None, rows)
    for sku in ("here", "late"):
        queue.offer(sku, update(sku, 2))
    assert queue.forget() == [], "the partition was not read to its end"
    queue.begin()
    assert queue.forget() == ["gone", "old"]
    queue.offer("late", None)
    queue.offer("never", None)
    assert (queue.forget(), queue.forget()) == (["late"], [])


def test_rows_of_skus_that_the_filters_leave_out_are_removed() -> None:
    rows = [(sku, Acknowledged("a-0", 1, 0)) for sku in ("x-1", "y-1")]
    queue = StockQueue(webhook(prefix="x-"), 0, None, rows)
    for sku in ("x-1", "y-1"):
        queue.offer(sku, update(sku, 1))
    queue.begin()
    assert queue.forget() == ["y-1"]


def order(order_id: str, sequence: int, channel: str = "tmall", **more: Any) -> bytes:
    row = {"order_id": order_id, "channel": channel, "sequence": sequence, "record": "internal", **more}
    return orjson.dumps(row)


def orders(end: int, progress: Progress | None = None, begin: int | None = None) -> OrderQueue:
    queue = OrderQueue(webhook(events=("orders",)), 0, end if begin is None else begin, end, progress)
    queue.begin()
    return queue


def test_orders_of_the_channel_are_sent_from_the_end_on_without_what_is_internal() -> None:
    queue = orders(end=10)
    queue.offer("old", order("old", 1), 9)
    queue.offer("o", order("o", 1), 10)
    queue.offer("other", order("other", 1, "jd"), 11)
    queue.offer("restated", order("restated", 1, restated=True), 12)
    queue.offer("o", order("o", 2), 13)
    body = orjson.loads(batch_of(queue).body)
    assert body["type"] == "order.updated"
    assert [(item["order_id"], item["sequence"], item.get("record")) for item in body["items"]] == [("o", 2, None)]


def test_a_successor_reads_orders_from_the_first_one_that_was_not_taken() -> None:
    queue = orders(end=0)
    for offset, name in enumerate(("a", "b", "c")):
        queue.offer(name, order(name, 1), offset)
    first = Batch("msg", b"", batch_of(queue).items[:1], ())
    ((_, row),) = queue.acknowledge(first)
    progress = Progress(**orjson.loads(row))
    assert progress.next == 1
    successor = orders(10, progress)
    for offset, name in enumerate(("a", "b", "c")):
        successor.offer(name, order(name, 1), offset)
    assert [item.name for item in batch_of(successor).items] == ["b", "c"]


def test_a_queue_of_orders_that_is_full_reads_the_rest_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(queues, "ORDERS_PENDING_MAX", 4)
    queue, taken = orders(end=0), []
    rows = [(f"o{number}", order(f"o{number}", 1), number) for number in range(10)]
    for row in rows:
        queue.offer(*row)
    while (batch := queue.next_batch()) is not None:
        taken += [item.name for item in batch.items]
        list(queue.acknowledge(batch))
        if queue.read_again():
            for row in rows[queue.next :]:
                queue.offer(*row)
    assert taken == [name for name, _, _ in rows]


def test_a_replay_leaves_no_order_out() -> None:
    old = Progress("a-0", (("o", 1, 1),), 3)
    replay = OrderQueue(webhook(epoch="a-1", events=("orders",)), 0, 10, 10, old)
    assert (replay.progress.next, replay.progress.sent) == (3, ())
    assert OrderQueue(webhook(epoch="b-0", events=("orders",)), 0, 10, 10, old).progress.next == 10
    assert orders(2, old).progress.next == 2, "the topic is shorter than it was"


def test_orders_that_came_between_the_definition_and_its_first_reading_are_sent() -> None:
    queue = orders(10, begin=8)
    for offset in (7, 8, 9):
        queue.offer(f"o{offset}", order(f"o{offset}", 1), offset)
    assert [item.name for item in batch_of(queue).items] == ["o8", "o9"]


def test_an_order_that_is_published_once_more_is_not_sent_again_by_a_successor_either() -> None:
    queue = orders(0)
    queue.offer("o", order("o", 1), 0)
    queue.offer("o", order("o", 2), 1)
    queue.offer("o", order("o", 1), 2)
    queue.offer("o", order("o", 2), 3)
    assert [(item.name, item.version) for item in batch_of(queue).items] == [("o", 2)]
    ((_, row),) = queue.acknowledge(batch_of(queue))
    successor = orders(10, Progress(**orjson.loads(row)))
    for offset, sequence in enumerate((1, 2, 1, 2, 1, 2)):
        successor.offer("o", order("o", sequence), offset)
    assert successor.next_batch() is None
    successor.offer("o", order("o", 3), 6)
    assert [(item.name, item.version) for item in batch_of(successor).items] == [("o", 3)]


def test_an_order_that_changed_again_is_sent_in_the_place_of_its_last_row() -> None:
    queue = orders(0)
    for offset, (name, sequence) in enumerate((("a", 1), ("b", 1), ("a", 2))):
        queue.offer(name, order(name, sequence), offset)
    assert [item.name for item in batch_of(queue).items] == ["b", "a"]
    first = Batch("msg", b"", batch_of(queue).items[:1], ())
    ((_, row),) = queue.acknowledge(first)
    assert Progress(**orjson.loads(row)).next == 2, "what was taken is not read again"


def test_the_orders_that_are_remembered_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(queues, "ORDERS_REMEMBERED", 3)
    queue = orders(100, Progress("a-0", next=90))
    assert queue.next == 87
    for offset in range(87, 100):
        queue.offer(f"o{offset}", order(f"o{offset}", 1), offset)
    assert len(queue._known) == 3
    assert [item.offset for item in batch_of(queue).items] == list(range(90, 100))
