"""The mutants: broken variants of Stocktide, each with the checker that has to detect it and the run to use.

A mutant is a few edits of the product's source text, applied when it is loaded. The module imports nothing of the
product, so that a mutant can be installed before the first module is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.plans import CALM, FORGET, FORK, LONG_CALM, RESTART, TWO_OWNERS, MutantRunPlan


@dataclass(frozen=True, slots=True)
class Edit:
    """`old` is in `file` (a path from the repository root) exactly once; the mutant has `new` there."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken product. `checker` has to detect it; others may, too."""

    name: str
    about: str
    checker: str
    plan: MutantRunPlan
    edits: tuple[Edit, ...]


_INCLUDES = "tables/ledger/lua/includes"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "oversell",
        "A line is held at the first warehouse, whether or not the units are there.",
        "oversold",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/draw.lua",
                "  local at = WAREHOUSE.first\n",
                "  do return WAREHOUSE.first end\n  local at = WAREHOUSE.first\n",
            ),
            Edit(f"{_INCLUDES}/place.lua", "if mode == 'in_stock' then", "do"),
            Edit(
                f"{_INCLUDES}/place.lua",
                "local draws = units <= quantity and draw.plan(sku, policy, units)",
                "local draws = draw.plan(sku, policy, units)",
            ),
            Edit(f"{_INCLUDES}/place.lua", "if mode == 'suspended' then return", "if false then return"),
        ),
    ),
    Mutant(
        "answer_before_settle",
        "The API answers once the ledger has decided, and does not wait until the journal holds it.",
        "answer_lost",
        FORGET,
        (
            Edit(
                "tables/ledger/submission.py",
                "            if applied.batch == 0:",
                "            if applied.batch == 0 or decode is not decode_decision_head:",
            ),
        ),
    ),
    Mutant(
        "redo_without_token_check",
        "A takeover compares the number of Redis's newest batch with the journal, and not its token.",
        "answer_lost",
        FORK,
        (
            Edit(
                "tables/recovery/journal_scan.py",
                "return found if found is not None and found.token == token else None",
                "return found",
            ),
            Edit(
                "tables/ledger/lua/redo.lua",
                "if (head[1] or '0') ~= ARGV[4] or (head[2] or '') ~= ARGV[5] then",
                "if (head[1] or '0') ~= ARGV[4] then",
            ),
        ),
    ),
    Mutant(
        "term_not_checked",
        "A relay goes on after its term: it passes over the markers of others, Redis takes its word, nobody ends it.",
        "answer_lost",
        TWO_OWNERS,
        (
            Edit(f"{_INCLUDES}/server.lua", "(term == nil or stored[3] == term)", "true"),
            Edit(
                "agents/relay_assignment.py",
                "        elif not assigned:\n",
                "        elif not assigned and self.relay is None:\n",
            ),
            Edit(
                "agents/relay.py",
                "                verdict = self._reader.feed(record.offset, decode_record(record.value))\n",
                "                entry: Any = decode_record(record.value)\n"
                "                entry = entry and JournalRecord(\n"
                "                    entry.kind, self.term, self._owner, entry.batch, entry.token,\n"
                "                    entry.previous, entry.payload,\n"
                "                )\n"
                "                verdict = self._reader.feed(record.offset, entry)\n",
            ),
        ),
    ),
    Mutant(
        "conflict_taken_for_repeat",
        "An order_id that is sent again with another body is answered as if it were the same.",
        "answer_contradicted",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/place_dispatch.lua",
                "if order.record.fingerprint ~= command.fingerprint or (known and known ~= command.fingerprint) then",
                "if false then",
            ),
        ),
    ),
    Mutant(
        "movement_ids_forgotten",
        "A movement that comes again counts again.",
        "counted_twice",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/movement_dispatch.lua",
                "local movement = movements.get(command.warehouse, command.id)",
                "local movement = false",
            ),
        ),
    ),
    Mutant(
        "event_ids_forgotten",
        "An order's shipment or return that comes again counts again.",
        "counted_twice",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/order_event_dispatch.lua",
                "local known = orders.event_of(order, command)",
                "local known = nil",
            ),
        ),
    ),
    Mutant(
        "ttl_instead_of_expiry",
        "A hold is a key with a time to live: Redis deletes the record, and the units stay locked.",
        "hold_leaked",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/write.lua",
                "local due = not order.dropped and order_record.deadline(record) or nil",
                "local due = record.state == 'parked' and not order.dropped and order_record.deadline(record) or nil",
            ),
            Edit(
                f"{_INCLUDES}/write.lua",
                "  else\n    put(key, order.packed)",
                "  elseif order.record.state == 'reserved' then\n"
                "    expiring[#expiring + 1] = {key, order.packed, math.max(1, order.record.expires_at - batch.now)}\n"
                "  else\n    put(key, order.packed)",
            ),
        ),
    ),
    Mutant(
        "expiry_keeps_the_units",
        "The hold of an order expires, and its units do not go back.",
        "hold_leaked",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/release.lua",
                "release_line(order, line, 'locked', cause)",
                "line.reserved, line.preordered, line.warehouses = nil, nil, nil",
            ),
        ),
    ),
    Mutant(
        "paid_after_cancelled",
        "An order that was cancelled can still be paid.",
        "hold_ended_twice",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/order_event_steps.lua",
                "  if state ~= 'reserved' then\n    if state == 'expired'",
                "  if state ~= 'reserved' and state ~= 'cancelled' then\n    if state == 'expired'",
            ),
        ),
    ),
    Mutant(
        "movement_voided_twice",
        "A movement that was voided can be voided again.",
        "counted_twice",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/void.lua",
                "if record.voided_by then return O.ALREADY_VOIDED, 'movement_id' end",
                "record.voided_by = nil",
            ),
        ),
    ),
    Mutant(
        "partial_cancel_keeps_its_line",
        "Units of a line are cancelled and go back, and the line keeps them.",
        "hold_leaked",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/release.lua",
                "    orders.put_units(line, entry[1], -units)\n    if line.pools",
                "    if not most then orders.put_units(line, entry[1], -units) end\n    if line.pools",
            ),
        ),
    ),
    Mutant(
        "late_payment_oversells",
        "A late payment takes the units of its order again, whether or not they are still there.",
        "oversold",
        LONG_CALM,
        (
            Edit(
                f"{_INCLUDES}/additions.lua",
                "local kind, detail, parts = place.plan_line(rules, each.sku, each.units)",
                "local kind, detail, parts = rules and 'reserve', {WAREHOUSE.first, each.units}, nil",
            ),
        ),
    ),
    Mutant(
        "versions_start_anew",
        "A worker numbers channel updates by itself, from 1 after each start, and the feed passes on whatever comes.",
        "version_went_back",
        RESTART,
        (
            Edit(
                "agents/channel_stock/conflation.py",
                "    published: ChannelStock | None = None\n",
                "    published: ChannelStock | None = None\n    count: int = 0\n",
            ),
            Edit(
                "agents/channel_stock/conflation.py",
                "                    state.pending = state.pending_ack = None\n",
                "                    state.pending = state.pending_ack = None\n                    state.count += 1\n",
            ),
            Edit("agents/channel_stock/conflation.py", "version=state.version", "version=state.count"),
            Edit(
                "api/feeds/channel.py",
                "return version > held_version or (version == held_version and row != held)",
                "return row != held",
            ),
        ),
    ),
    Mutant(
        "pool_keeps_its_units",
        "A pool ends, and its units do not go back to the shelf.",
        "hold_leaked",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/pools.lua",
                "  if units ~= 0 then change(sku, purpose, warehouse, -units) end\n",
                "",
            ),
        ),
    ),
    Mutant(
        "move_leaves_the_hold_behind",
        "Held units move to another warehouse, and stay held at the one that they left.",
        "hold_leaked",
        LONG_CALM,
        (
            Edit(
                f"{_INCLUDES}/reroute.lua",
                "  skus.change_at(sku, at, kind, -moved)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "growth_not_told",
        "A channel hears of less stock and of another mode, and updates that only tell of more are dropped.",
        "channel_not_converged",
        CALM,
        (
            Edit(
                "agents/channel_stock/conflation.py",
                "        if offer == state.published:\n",
                "        before = state.published\n"
                "        if before is not None and offer.mode == before.mode and offer.quantity >= before.quantity:\n",
            ),
        ),
    ),
    Mutant(
        "payload_lacks_an_effect",
        "What goes into the journal of a batch names the first SKU that the batch changed, and no other.",
        "log_does_not_explain",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/payload.lua",
                "      rows[i] = row\n",
                "      rows[i] = i == 1 and row or pack(sku.name)\n",
            ),
        ),
    ),
    Mutant(
        "force_without_approval",
        "A forced order is decided at once, and waits for nobody.",
        "hold_ended_twice",
        CALM,
        (Edit(f"{_INCLUDES}/place_dispatch.lua", "  if command.force then\n", "  if false then\n"),),
    ),
    Mutant(
        "commit_before_settle",
        "Input is committed once the ledger has decided, and not only when the journal holds it.",
        "input_unaccounted",
        FORGET,
        (
            Edit(
                "tables/ledger/submission.py",
                "            if applied.batch == 0:",
                "            if applied.batch == 0 or decode is decode_decision_head:",
            ),
        ),
    ),
    Mutant(
        "letter_without_reason",
        "Dead letters do not say why.",
        "input_unaccounted",
        CALM,
        (Edit("agents/dead_letters.py", "DeadLetter(reason, ", 'DeadLetter("", '),),
    ),
    Mutant(
        "letter_without_origin",
        "Dead letters do not say where the input lay.",
        "input_unaccounted",
        CALM,
        (Edit("agents/dead_letters.py", "place.partition, place.offset, rfc", "place.partition, -1, rfc"),),
    ),
    Mutant(
        "bad_input_stops_a_chunk",
        "What follows bytes that are no event, in the same chunk, is not taken in.",
        "input_unaccounted",
        CALM,
        (
            Edit(
                "agents/intake.py",
                "            dead_letters.append(dead_letter_of_malformed(chunk, record, event))\n",
                "            dead_letters.append(dead_letter_of_malformed(chunk, record, event))\n            return\n",
            ),
        ),
    ),
    Mutant(
        "short_not_queued",
        "Short units are not in the queue, so that what comes is not for them.",
        "short_not_told",
        CALM,
        (
            Edit(
                f"{_INCLUDES}/queue.lua",
                "  if line.short then return place - SHORT_OFFSET end\n",
                "  if line.short then return false end\n",
            ),
        ),
    ),
    Mutant(
        "short_without_alert",
        "An order that is sold beyond the shelf is short, and no alert says so.",
        "short_not_told",
        CALM,
        (Edit(f"{_INCLUDES}/place.lua", "    alerts.add('sold_short', sku, report)\n", ""),),
    ),
    Mutant(
        "fill_skips_the_head",
        "A fill begins with the second order that waits, where there is one.",
        "queue_order",
        LONG_CALM,
        (
            Edit(
                f"{_INCLUDES}/fill.lua",
                "  channel.page, channel.at = queue.first(sku.name, channel.name, count), 1\n",
                "  channel.page = queue.first(sku.name, channel.name, count)\n"
                "  channel.at = channel.page[2] and 2 or 1\n",
            ),
            Edit(f"{_INCLUDES}/fill.lua", "  return channel.page[1]\n", "  return channel.page[channel.at]\n"),
        ),
    ),
    Mutant(
        "derivation_halts",
        "The derivation of the journal halts for 18 s, and nothing says so.",
        "stands_still",
        LONG_CALM,
        (
            Edit(
                "agents/derive/agent.py",
                "        rows = await read_rows(chunk, reader, checkpoints, self._work, days)\n",
                "        if state.position.batch > 60 and not hasattr(self, '_halted'):\n"
                "            self._halted = True\n"
                "            await asyncio.sleep(18)\n"
                "        rows = await read_rows(chunk, reader, checkpoints, self._work, days)\n",
            ),
        ),
    ),
)


def find_mutant(name: str) -> Mutant:
    """The mutant of this name. Raises KeyError."""
    return {mutant.name: mutant for mutant in MUTANTS}[name]
