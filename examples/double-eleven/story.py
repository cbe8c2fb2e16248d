"""The day: what happens when, and the numbers that each step has to lead to. The README works them out by hand.

In: nothing. Out: `STEPS`, and what is expected at the end of the day. The program and the test of the README read their
expectations here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from calls import Call, cancel, change, move, order, pay, policy, ship, take_back

CHANNELS = ("tmall", "jd", "douyin", "shopify", "own")
COUNTERS = ("on_hand", "committed", "locked", "reserved", "short", "available", "preordered", "incoming", "damaged")
HOT_SKU = "DRYER"


@dataclass(frozen=True, slots=True)
class Numbers:
    """A SKU after a step: the counters, in the order of `COUNTERS`, and what the channels may sell, in the order of
    `CHANNELS`: `14` from the shelf, `P15` preorders, `-` nothing."""

    sku: str
    counters: tuple[int, ...]
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What happens at a time of the story (HH:MM), and the numbers after it."""

    at: str
    text: str
    calls: tuple[Call, ...]
    after: tuple[Numbers, ...]


def numbers(sku: str, channels: str, **counters: int) -> Numbers:
    """Counters that are left out are 0."""
    assert counters.keys() <= set(COUNTERS)
    return Numbers(sku, tuple(counters.get(name, 0) for name in COUNTERS), tuple(channels.split()))


MIDNIGHT = Step(
    "00:00",
    "The policies come into force; both warehouses report their opening stock.",
    (
        policy("tmall", safety_threshold=4, resume_threshold=8, below_threshold="preorder", preorder_cap=20),
        policy("jd", safety_threshold=2, below_threshold="preorder", preorder_cap=10),
        policy("douyin", purposes=["double-11"]),
        policy("shopify", share=0.5, buffer=2),
        policy("own", primary=True, safety_threshold=1, below_threshold="suspend"),
        move("received", "wms-1", "SH1", {"DRYER": 12, "EARBUDS": 15, "COOKER": 5, "TEA-SET": 6}),
        move("received", "wms-2", "GZ1", {"DRYER": 8, "EARBUDS": 5, "COOKER": 1}),
        policy("tmall", "COOKER", preorder_backed=True),
        policy("own", "EARBUDS", warehouses=["GZ1"]),
    ),
    (
        numbers("DRYER", "20 20 20 9 20", on_hand=20, available=20),
        numbers("EARBUDS", "20 20 20 9 5", on_hand=20, available=20),
        numbers("COOKER", "6 6 6 2 6", on_hand=6, available=6),
        numbers("TEA-SET", "6 6 6 2 6", on_hand=6, available=6),
    ),
)

NIGHT = (
    Step(
        "00:05",
        "SH1 expects 30 DRYER at 09:00 (po-1), GZ1 expects 12 COOKER at 18:00 (po-2).",
        (
            move("expected", "po-1", "SH1", {"DRYER": 30}, eta="09:00"),
            move("expected", "po-2", "GZ1", {"COOKER": 12}, eta="18:00"),
        ),
        (
            numbers("DRYER", "20 20 20 9 20", on_hand=20, available=20, incoming=30),
            numbers("COOKER", "6 6 6 2 6", on_hand=6, available=6, incoming=12),
        ),
    ),
    Step(
        "00:10",
        "SH1 sets 10 EARBUDS aside for the campaign `double-11`.",
        (move("reserved", "wms-3", "SH1", {"EARBUDS": 10}, purpose="double-11"),),
        (numbers("EARBUDS", "10 10 20 4 5", on_hand=20, reserved=10, available=10),),
    ),
    Step(
        "00:30",
        "tmall-1, -2 and -3 take 2, 3 and 1 DRYER and are not paid yet.",
        (order("tmall-1", {"DRYER": 2}), order("tmall-2", {"DRYER": 3}), order("tmall-3", {"DRYER": 1})),
        (numbers("DRYER", "14 14 14 6 14", on_hand=20, locked=6, available=14, incoming=30),),
    ),
    Step(
        "00:35",
        "jd reports two paid orders: jd-1 has 4 DRYER, jd-2 has 3.",
        (order("jd-1", {"DRYER": 4}, paid=True), order("jd-2", {"DRYER": 3}, paid=True)),
        (numbers("DRYER", "7 7 7 2 7", on_hand=20, committed=7, locked=6, available=7, incoming=30),),
    ),
    Step(
        "00:40",
        "own-1 takes 2 DRYER and a TEA-SET. The shop repeats the request: it is still one order.",
        (order("own-1", {"DRYER": 2, "TEA-SET": 1}), order("own-1", {"DRYER": 2, "TEA-SET": 1}, status=200)),
        (
            numbers("DRYER", "5 5 5 1 5", on_hand=20, committed=7, locked=8, available=5, incoming=30),
            numbers("TEA-SET", "5 5 5 1 5", on_hand=6, locked=1, available=5),
        ),
    ),
    Step(
        "00:45",
        "shopify-1 takes 1 DRYER. 4 are left, tmall's safety threshold: tmall takes preorders.",
        (order("shopify-1", {"DRYER": 1}),),
        (numbers("DRYER", "P20 4 4 1 4", on_hand=20, committed=7, locked=9, available=4, incoming=30),),
    ),
    Step(
        "00:50",
        "tmall-4 preorders 3 DRYER, tmall-5 preorders 2.",
        (order("tmall-4", {"DRYER": 3}), order("tmall-5", {"DRYER": 2})),
        (numbers("DRYER", "P15 4 4 1 4", on_hand=20, committed=7, locked=9, available=4, preordered=5, incoming=30),),
    ),
    Step(
        "00:55",
        "jd-3 takes 2 DRYER, paid. 2 are left, jd's safety threshold: jd takes preorders too.",
        (order("jd-3", {"DRYER": 2}, paid=True),),
        (numbers("DRYER", "P15 P10 2 - 2", on_hand=20, committed=9, locked=9, available=2, preordered=5, incoming=30),),
    ),
    Step(
        "01:00",
        "jd-4 preorders 4 DRYER and jd-5 one, both paid. jd-6 wants 6: only 5 more are allowed, it is refused.",
        (
            order("jd-4", {"DRYER": 4}, paid=True),
            order("jd-5", {"DRYER": 1}, paid=True),
            order("jd-6", {"DRYER": 6}),
        ),
        (numbers("DRYER", "P15 P5 2 - 2", on_hand=20, committed=9, locked=9, available=2, preordered=10, incoming=30),),
    ),
    Step(
        "01:10",
        "tmall-1, tmall-2, own-1 and shopify-1 are paid, and tmall-4, a preorder.",
        tuple(pay(each) for each in ("tmall-1", "tmall-2", "own-1", "shopify-1", "tmall-4")),
        (
            numbers(
                "DRYER", "P15 P5 2 - 2", on_hand=20, committed=17, locked=1, available=2, preordered=10, incoming=30
            ),
            numbers("TEA-SET", "5 5 5 1 5", on_hand=6, committed=1, available=5),
        ),
    ),
    Step(
        "01:20",
        "tmall-3 is cancelled. Its DRYER goes to jd-4: jd may use all above 2, tmall's preorders only what is above 4.",
        (cancel("tmall-3"),),
        (numbers("DRYER", "P15 P6 2 - 2", on_hand=20, committed=18, available=2, preordered=9, incoming=30),),
    ),
    Step(
        "02:00",
        "The show on douyin: douyin-1 to -4 buy 2 EARBUDS each from the pool, douyin-5 buys 4: the last 2 of the pool"
        " and 2 from the shelf.",
        (
            *(order(f"douyin-{number}", {"EARBUDS": 2}, paid=True) for number in range(1, 5)),
            order("douyin-5", {"EARBUDS": 4}, paid=True),
        ),
        (numbers("EARBUDS", "8 8 8 3 5", on_hand=20, committed=12, available=8),),
    ),
    Step(
        "02:10",
        "own-2 buys 3 EARBUDS, paid; own sells them from GZ1 only.",
        (order("own-2", {"EARBUDS": 3}, paid=True),),
        (numbers("EARBUDS", "5 5 5 1 2", on_hand=20, committed=15, available=5),),
    ),
    Step(
        "03:00",
        "douyin has sold TEA-SETs in its app: douyin-6 has 3, douyin-7 has 4 of which 2 are missing, douyin-8 has 1,"
        " which is missing.",
        tuple(
            order(f"douyin-{number}", {"TEA-SET": units}, accept="sold", paid=True)
            for number, units in ((6, 3), (7, 4), (8, 1))
        ),
        (numbers("TEA-SET", "P20 P10 - - -", on_hand=6, committed=6, short=3, available=-3),),
    ),
    Step(
        "04:00",
        "tmall-6 buys 2 COOKER, paid. 4 are left: tmall-7 preorders 5, paid, and tmall-8 preorders 4. 3 of the 12"
        " that are to come are still free.",
        (
            order("tmall-6", {"COOKER": 2}, paid=True),
            order("tmall-7", {"COOKER": 5}, paid=True),
            order("tmall-8", {"COOKER": 4}),
        ),
        (numbers("COOKER", "P3 4 4 1 4", on_hand=6, committed=2, available=4, preordered=9, incoming=12),),
    ),
    Step(
        "05:00",
        "own-3 holds 2 EARBUDS, is not paid, and expires. tmall, which saw 3, stays below its resume threshold.",
        (order("own-3", {"EARBUDS": 2}, hold_seconds=1, until="expired"),),
        (numbers("EARBUDS", "P20 5 5 1 2", on_hand=20, committed=15, available=5),),
    ),
)

MORNING = (
    Step(
        "08:00",
        "The first parcels: jd-1 and tmall-1 from SH1, jd-2 from GZ1, own-1 from both.",
        (
            ship("jd-1", ("DRYER", 4, "SH1")),
            ship("jd-2", ("DRYER", 3, "GZ1")),
            ship("tmall-1", ("DRYER", 2, "SH1")),
            ship("own-1", ("DRYER", 2, "GZ1"), ("TEA-SET", 1, "SH1")),
        ),
        (
            numbers("DRYER", "P15 P6 2 - 2", on_hand=9, committed=7, available=2, preordered=9, incoming=30),
            numbers("TEA-SET", "P20 P10 - - -", on_hand=5, committed=5, short=3, available=-3),
        ),
    ),
    Step(
        "09:00",
        "po-1 does not come. po-2 slips: only 6 COOKER, tomorrow at 10:00. 9 are preordered: tmall takes no more.",
        (move("expected", "po-2", "GZ1", {"COOKER": 6}, eta="34:00"),),
        (numbers("COOKER", "- 4 4 1 4", on_hand=6, committed=2, available=4, preordered=9, incoming=6),),
    ),
    Step(
        "09:30",
        "tmall-7 cancels 4 of its 5 COOKER: one more can be preordered.",
        (cancel("tmall-7", {"COOKER": 4}),),
        (numbers("COOKER", "P1 4 4 1 4", on_hand=6, committed=2, available=4, preordered=5, incoming=6),),
    ),
    Step(
        "10:00",
        "own-3 is paid late and takes its 2 EARBUDS again, the last ones of GZ1.",
        (pay("own-3", if_expired="take_again"),),
        (numbers("EARBUDS", "P20 3 3 - -", on_hand=20, committed=17, available=3),),
    ),
    Step(
        "12:00",
        "GZ1 counts 4 EARBUDS instead of 5, and 5 are paid: a shortfall of 1.",
        (move("counted", "wms-4", "GZ1", {"EARBUDS": 4}),),
        (numbers("EARBUDS", "P20 P10 2 - -", on_hand=19, committed=17, available=2),),
    ),
)

AFTERNOON = (
    Step(
        "12:30",
        "own-4 wants 3 EARBUDS: refused. douyin-2 is cancelled: its 2 go back to the pool, where only douyin sells.",
        (order("own-4", {"EARBUDS": 3}, status=409, code="insufficient_stock"), cancel("douyin-2")),
        (numbers("EARBUDS", "P20 P10 4 - -", on_hand=19, committed=15, reserved=2, available=2),),
    ),
    Step(
        "15:00",
        "po-1 comes at last, with 28 of 30 DRYER. It fills jd-4 and jd-5, tmall-4 and tmall-5; 19 more go on sale.",
        (move("received", "wms-5", "SH1", {"DRYER": 28}, expected_id="po-1"),),
        (numbers("DRYER", "21 21 21 9 21", on_hand=37, committed=14, locked=2, available=21, incoming=2),),
    ),
    Step(
        "15:30",
        "tmall-5 is paid. All channels sell again: tmall-9, jd-7, own-5 and shopify-2 buy 1 DRYER each, tmall-10"
        " buys 2.",
        (
            pay("tmall-5"),
            *(order(each, {"DRYER": 1}, paid=True) for each in ("tmall-9", "jd-7", "own-5", "shopify-2")),
            order("tmall-10", {"DRYER": 2}, paid=True),
        ),
        (numbers("DRYER", "15 15 15 6 15", on_hand=37, committed=22, available=15, incoming=2),),
    ),
    Step(
        "16:00",
        "More parcels: tmall-2, tmall-4 and jd-5 from SH1, jd-4 from both; douyin-6; douyin-1 and own-2.",
        (
            ship("tmall-2", ("DRYER", 3, "SH1")),
            ship("tmall-4", ("DRYER", 3, "SH1")),
            ship("jd-4", ("DRYER", 1, "GZ1"), ("DRYER", 3, "SH1")),
            ship("jd-5", ("DRYER", 1, "SH1")),
            ship("douyin-6", ("TEA-SET", 3, "SH1")),
            ship("douyin-1", ("EARBUDS", 2, "SH1")),
            ship("own-2", ("EARBUDS", 3, "GZ1")),
        ),
        (
            numbers("DRYER", "15 15 15 6 15", on_hand=26, committed=11, available=15, incoming=2),
            numbers("EARBUDS", "P20 P10 4 - -", on_hand=14, committed=10, reserved=2, available=2),
            numbers("TEA-SET", "P20 P10 - - -", on_hand=2, committed=2, short=3, available=-3),
        ),
    ),
)

EVENING = (
    Step(
        "17:00",
        "Returns: jd-1 gives back a good DRYER, jd-2 a damaged one; douyin-6 gives back a TEA-SET, which"
        " douyin-7 gets.",
        (
            take_back("jd-1", "DRYER", 1, "SH1"),
            take_back("jd-2", "DRYER", 1, "GZ1", "damaged"),
            take_back("douyin-6", "TEA-SET", 1, "SH1"),
        ),
        (
            numbers("DRYER", "16 16 16 7 16", on_hand=27, committed=11, available=16, incoming=2, damaged=1),
            numbers("TEA-SET", "P20 P10 - - -", on_hand=3, committed=3, short=2, available=-2),
        ),
    ),
    Step(
        "18:00",
        "GZ1 receives 5 TEA-SETs: one for douyin-7, one for douyin-8, 3 for the shelf.",
        (move("received", "wms-6", "GZ1", {"TEA-SET": 5}),),
        (numbers("TEA-SET", "P20 3 3 - 3", on_hand=8, committed=5, available=3),),
    ),
    Step(
        "20:00",
        "shopify-3 holds a COOKER, exchanges it for a DRYER, and is paid.",
        (
            order("shopify-3", {"COOKER": 1}),
            change("shopify-3", {"COOKER": 1}, {"DRYER": 1}),
            pay("shopify-3"),
        ),
        (
            numbers("DRYER", "15 15 15 6 15", on_hand=27, committed=12, available=15, incoming=2, damaged=1),
            numbers("COOKER", "P1 4 4 1 4", on_hand=6, committed=2, available=4, preordered=5, incoming=6),
        ),
    ),
    Step(
        "22:00",
        "The campaign ends: the last 2 EARBUDS of the pool go back to the shelf.",
        (move("released", "wms-7", "SH1", {"EARBUDS": 2}, purpose="double-11"),),
        (numbers("EARBUDS", "P20 4 4 1 -", on_hand=14, committed=10, available=4),),
    ),
)

STEPS = (MIDNIGHT, *NIGHT, *MORNING, *AFTERNOON, *EVENING)

# By SKU and warehouse: on hand, committed, available, damaged.
WAREHOUSES = {
    ("DRYER", "SH1"): (25, 12, 13, 0),
    ("DRYER", "GZ1"): (2, 0, 2, 1),
    ("EARBUDS", "SH1"): (13, 8, 5, 0),
    ("EARBUDS", "GZ1"): (1, 2, -1, 0),
    ("COOKER", "SH1"): (5, 2, 3, 0),
    ("COOKER", "GZ1"): (1, 0, 1, 0),
    ("TEA-SET", "SH1"): (3, 3, 0, 0),
    ("TEA-SET", "GZ1"): (5, 2, 3, 0),
}

ORDERS = {
    "shipped": "tmall-1 tmall-2 tmall-4 jd-1 jd-2 jd-4 jd-5 douyin-1 douyin-6 own-1 own-2",
    "paid": "tmall-5 tmall-6 tmall-7 tmall-9 tmall-10 jd-3 jd-7 douyin-3 douyin-4 douyin-5 douyin-7 douyin-8 own-3"
    " own-5 shopify-1 shopify-2 shopify-3",
    "reserved": "tmall-8",
    "cancelled": "tmall-3 douyin-2",
    "rejected": "jd-6 own-4",
}

# Of each announcement: its state, its line, and how often it was amended.
ANNOUNCEMENTS: dict[str, dict[str, Any]] = {
    "po-1": {"state": "partly_received", "quantity": 30, "received": 28, "incoming": 2, "amendments": 0},
    "po-2": {"state": "expected", "quantity": 6, "received": 0, "incoming": 6, "amendments": 1},
}

# By type, SKU and what the alert is about: its units. Other types of alerts depend on the clock.
ALERTS = {
    ("sold_short", "TEA-SET", "douyin-7"): 2,
    ("sold_short", "TEA-SET", "douyin-8"): 1,
    ("preorders_unbacked", "COOKER", "tmall-7 tmall-8"): 3,
    ("shortfall", "EARBUDS", "own-2 own-3"): 1,
}
