"""The rules of the protocol, each a switch of the model: a mutation of the protocol is a model without some of them.

Each name is a sentence that is true while the rule is kept. The numbers are those of docs/rules.md.
"""

from __future__ import annotations

from msgspec import Struct


class Rules(Struct, frozen=True):
    """The rules that are kept: all, unless a mutation drops some."""

    # R1: which server decides, relays and settles.
    apply_needs_a_blessing: bool = True
    outbox_needs_a_blessing: bool = True
    settle_needs_a_blessing: bool = True
    relay_needs_its_own_term: bool = True
    blessing_names_the_process: bool = True
    blessing_names_the_replication: bool = True
    # R2: terms.
    recovery_has_a_new_term: bool = True
    lost_marker_is_tried_again: bool = True
    higher_marker_ends_a_term: bool = True
    reader_compares_terms: bool = True
    # R3: a recovery and the server that it began with.
    unbless_yields_to_a_higher_term: bool = True
    recovery_needs_its_own_term: bool = True
    recovery_needs_the_same_server: bool = True
    flush_keeps_blessed: bool = True
    scan_begins_where_redis_is_settled: bool = True
    # R4, R5, R6: what is compared.
    takeover_compares_the_token: bool = True
    redo_begins_where_redis_stands: bool = True
    bless_checks_the_chain: bool = True
    settle_compares_the_token: bool = True
    record_names_the_previous_token: bool = True
    # R7: callers.
    answer_waits_for_read_back: bool = True
    caller_compares_the_token: bool = True
    attempt_has_a_fresh_token: bool = True
    # R8: lost records are sent again.
    relay_sends_again: bool = True
    # R9: rows, the journal's head, rebuild.
    rows_are_fenced: bool = True
    position_follows_its_rows: bool = True
    journal_is_trimmed_below_the_last_whole_pass: bool = True
    pass_ends_on_the_server_where_it_began: bool = True
    end_of_a_pass_names_its_beginning: bool = True
    rebuild_stops_at_a_row_beyond_the_end: bool = True
    rebuild_redoes_since_the_last_pass: bool = True
    # R10: a reader that starts in the middle.
    position_names_term_and_owner: bool = True


ALL = Rules()
