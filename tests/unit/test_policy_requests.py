"""The fold of requests for policies."""

from __future__ import annotations

import msgspec

from stocktide.api.policy_requests import Asked, Decided, fold


def test_an_event_that_cannot_be_read_hides_no_other_request() -> None:
    names = {"channel": "jd", "sku": None, "by": "mei", "reason": "sale", "digest": ""}
    asked = [Asked(id=each, **names, before=None, after={}, at=0, ends_at=10) for each in ("a", "b")]
    decided = Decided(id="b", approved=True, by="li", at=5)
    first, second, decision = (msgspec.json.encode(each) for each in (*asked, decided))
    found = fold([first, b'{"type":"of a newer version","id":"a"}', b"\xff", second, decision])
    assert [found[each].state(1) for each in ("a", "b")] == ["waiting", "approved"] and found["b"].is_due
