"""What one receiver has to get: alerts in groups, each with the time at which it is due.

In: alerts with their places in the topic; the moment. Out: the group that is due, its alerts, and the places of what is
done. Pure: the clock is a parameter, in ms since the epoch. `group_wait`, `group_interval` and `repeat_interval` mean
what they mean in Prometheus's Alertmanager, for events instead of states: an alert that says again what was sent about
the same thing is counted, not sent, until `repeat_interval` is over.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b

from msgspec import Struct, structs

from stocktide.agents.notify.config import Route
from stocktide.agents.notify.routing import Alert, group_of, held_until

# Groups that wait; an alert of one more joins the group of the rest of its route.
GROUPS_MAX = 500
# Alerts that wait with their content: a message looks at each. Those beyond, or beyond the bytes, are counted in the
# message ("and 312 more").
ALERTS_MAX = 10_000
# Memory of all alerts that wait in a process: 10,000 for each of four receivers, some 1.4 KB each. Receivers have equal
# shares: one that is down takes no room from another.
WAITING_BYTES_MAX = 64 * 1024 * 1024
# Of an alert that waits, beside its row and texts: objects, and its place here and in `progress`.
WAITING_OVERHEAD_BYTES = 500
# Things of which it is known what was said about them last, in a process and shared likewise: digests, some 10 MB with
# those of rows.
SUBJECTS_MAX = 20_000
_DIGEST_BYTES = 16

# A record of `alerts`: partition and offset.
Place = tuple[int, int]


class Waiting(Struct, frozen=True):
    """An alert that waits."""

    alert: Alert
    place: Place
    size: int


class Group:
    """One group: `labels` of its route, what waits, how many more there were, and repeats that were left out."""

    def __init__(self, route: int, labels: tuple[tuple[str, str], ...], due: int) -> None:
        self.route = route
        self.labels = labels
        self.due = due
        self.waiting: list[Waiting] = []
        self.more = 0
        self.repeats = 0
        self.sent_at: int | None = None
        self.failing_since: int | None = None

    def is_idle(self, now: int) -> bool:
        """Whether it had nothing for its interval."""
        return not self.waiting and not self.more and self.due <= now


class Message(Struct, frozen=True):
    """What is to be sent now of a group: `waiting` in order; `more` were not kept; `repeats` say nothing new."""

    group: Group
    waiting: tuple[Waiting, ...]
    more: int
    repeats: int


class Groups:
    """The groups of one receiver, of `receivers` in the process. Places of its routes are those in the file."""

    def __init__(self, routes: tuple[Route, ...], receivers: int = 1) -> None:
        self._routes = routes
        self._bytes_max = WAITING_BYTES_MAX // receivers
        self._subjects_max = SUBJECTS_MAX // receivers
        self._groups: dict[tuple[int, tuple[tuple[str, str], ...]], Group] = {}
        self._count = 0
        self._bytes = 0
        # Subject and route → what was said last, and when.
        self._said: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
        # The same of the rows themselves: processes raise the same one, and a restart writes a row again.
        self._rows: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def add(self, route: int, alert: Alert, place: Place, now: int) -> bool:
        """Add an alert; False if it needs no sending: it is a repeat, or there is no room to keep it."""
        subject, row, content = _subject(route, alert), _digest(route, alert.id), _digest(*alert.content)
        group = self._group(route, alert, now)
        known = (each for each in (self._said.get(subject), self._rows.get(row)) if each is not None)
        if any(said == content and now - at < self._interval(route) for said, at in known):
            group.repeats += 1
            return False
        group.due = self._due(group, now)
        size = _size(alert)
        # One that is larger than the share waits alone.
        if self._count >= ALERTS_MAX or (self._count and self._bytes + size > self._bytes_max):
            group.more += 1
            return False
        self._note(self._said, subject, (content, now))
        self._note(self._rows, row, (content, now))
        group.waiting.append(Waiting(alert, place, size))
        self._count += 1
        self._bytes += size
        return True

    def due(self, now: int) -> Message | None:
        """The message of the group that has been due longest; None if none is. What quiet times hold back stays."""
        for group in sorted(self._groups.values(), key=lambda each: each.due):
            if group.due > now:
                return None
            if not group.waiting and not group.more:
                continue
            if message := self._message(group, now):
                return message
        return None

    def next_due(self) -> int | None:
        """When the next group may be due; None if nothing waits."""
        return min((group.due for group in self._groups.values() if group.waiting or group.more), default=None)

    def sent(self, message: Message, count: int, now: int) -> list[Place]:
        """The first `count` alerts of a message were sent; their places."""
        group, done = message.group, message.waiting[:count]
        self._take_out(group, done)
        group.failing_since = None
        if count == len(message.waiting):
            group.more -= message.more
            group.repeats -= message.repeats
            group.sent_at = now
            group.due = now + round(self._routes[group.route].group_interval * 1000)
            if group.waiting:  # held back, or new
                group.due = min(group.due, self._release(group, now))
        for each in done:
            subject, content = _subject(group.route, each.alert), _digest(*each.alert.content)
            if (said := self._said.get(subject)) and said[0] == content:  # else it has said otherwise meanwhile
                self._note(self._said, subject, (content, now))
        return [each.place for each in done]

    def failed(self, message: Message, retry_at: int, now: int) -> None:
        """A message was not taken: its group is due again later, behind the others."""
        message.group.due = retry_at
        if message.group.failing_since is None:
            message.group.failing_since = now

    def give_up(self, message: Message) -> list[Place]:
        """Drop the alerts of a message; their places."""
        group = message.group
        self._take_out(group, message.waiting)
        group.more -= message.more
        group.failing_since = None
        for each in message.waiting:
            self._said.pop(_subject(group.route, each.alert), None)  # they were not sent
            self._rows.pop(_digest(group.route, each.alert.id), None)
        return [each.place for each in message.waiting]

    def forget_idle(self, now: int) -> None:
        """Forget groups that had nothing for their interval: the next alert begins a new one."""
        idle = [key for key, group in self._groups.items() if group.is_idle(now)]
        for key in idle:
            del self._groups[key]

    def _group(self, route: int, alert: Alert, now: int) -> Group:
        labels = group_of(self._routes[route], alert)
        group = self._current(route, labels, now)
        if group is None and len(self._groups) >= GROUPS_MAX:
            self.forget_idle(now)
        if group is None and len(self._groups) >= GROUPS_MAX:
            labels = ()
            group = self._current(route, labels, now)
        if group is None:
            group = self._groups[route, labels] = Group(route, labels, now)
        return group

    def _current(self, route: int, labels: tuple[tuple[str, str], ...], now: int) -> Group | None:
        """The group, unless it is to be forgotten: no timer runs while nothing waits."""
        group = self._groups.get((route, labels))
        return None if group is None or group.is_idle(now) else group

    def _due(self, group: Group, now: int) -> int:
        """When a group to which an alert is added is due: what is held back in it does not delay the new one."""
        route = self._routes[group.route]
        if group.sent_at is None:
            due = now + round(route.group_wait * 1000)
        else:
            due = max(now, group.sent_at + round(route.group_interval * 1000))
        return min(due, group.due) if group.waiting or group.more else due

    def _message(self, group: Group, now: int) -> Message | None:
        """What may be sent now; without it, the group is due when the first of it is released."""
        quiet = self._routes[group.route].quiet
        until = {severity: held_until(quiet, severity, now) for severity in _severities(group)}
        free = tuple(each for each in group.waiting if until[each.alert.severity] is None)
        if free or (group.more and not group.waiting):
            return Message(group, free, group.more, group.repeats)
        group.due = min(end for end in until.values() if end is not None)
        return None

    def _release(self, group: Group, now: int) -> int:
        """When the first of what waits is no longer held back."""
        quiet = self._routes[group.route].quiet
        return min(held_until(quiet, severity, now) or group.due for severity in _severities(group))

    def _take_out(self, group: Group, done: tuple[Waiting, ...]) -> None:
        places = {each.place for each in done}
        group.waiting = [each for each in group.waiting if each.place not in places]
        self._count -= len(done)
        self._bytes -= sum(each.size for each in done)

    def _note(self, known: OrderedDict[bytes, tuple[bytes, int]], key: bytes, said: tuple[bytes, int]) -> None:
        """Note as the newest; of too many the oldest goes."""
        known[key] = said
        known.move_to_end(key)
        if len(known) > self._subjects_max:
            known.popitem(last=False)

    def _interval(self, route: int) -> int:
        return round(self._routes[route].repeat_interval * 1000)


def _subject(route: int, alert: Alert) -> bytes:
    return _digest(route, *alert.subject)


def _digest(*parts: object) -> bytes:
    """What stands for values of any length."""
    return blake2b(repr(parts).encode(), digest_size=_DIGEST_BYTES).digest()


def _size(alert: Alert) -> int:
    """Bytes of memory of an alert that waits."""
    texts = sum(sys.getsizeof(value) for value in structs.astuple(alert) if isinstance(value, str))
    return WAITING_OVERHEAD_BYTES + memoryview(alert.row).nbytes + texts


def _severities(group: Group) -> Iterator[str]:
    yield from {each.alert.severity for each in group.waiting}
