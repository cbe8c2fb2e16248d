"""How long a fetch of a consumer waits for a record.

In: the fetcher of an aiokafka consumer. Out: the wait of each of its fetches.
"""

from __future__ import annotations

import time
from typing import Any

# A partition whose records are buffered is left out of a fetch and joins the next one, so the long poll of such a fetch
# bounds the latency. A fetch with all partitions returns at the first record, and may wait longer. Faust: 1,500 ms.
FETCH_WAIT_MS_MAX = 100
COMPLETE_FETCH_WAIT_MS_MAX = 500
# Records that have been buffered longer are of a partition that nobody reads now, as a restored changelog is.
UNREAD_SECONDS = 1.0


def limit_long_polls(fetcher: Any) -> None:
    """Choose the wait of each fetch by whether partitions are left out of it."""
    get_actions_per_node = fetcher._get_actions_per_node

    def get_actions_and_limit_wait(assignment: Any) -> Any:
        since = time.monotonic() - UNREAD_SECONDS
        is_complete = all(each._created < since for each in fetcher._records.values())
        fetcher._fetch_max_wait_ms = COMPLETE_FETCH_WAIT_MS_MAX if is_complete else FETCH_WAIT_MS_MAX
        return get_actions_per_node(assignment)

    fetcher._get_actions_per_node = get_actions_and_limit_wait
