"""`stocktide demo`: everything that `stocktide up` starts, on a folder of its own, and a shop that trades on it.

In: the settings. Out: words on the console, a page in the browser; ends at Ctrl-C and leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from loadtest import demo
from loadtest.client import ApiError
from stocktide import up
from stocktide.errors import FrontDoorError
from stocktide.ports import is_free
from stocktide.progress import Progress
from stocktide.ready import Ready
from stocktide.settings import Settings


def run(settings: Settings, say: Progress) -> int:
    """Run the demo until a signal; the exit status. Raises FrontDoorError if it cannot start or go on."""
    if settings.port and not is_free(settings.port, settings.host):
        say(f"port {settings.port} is taken: the demo takes a free one")
        settings = replace(settings, port=0)

    async def trade(ready: Ready) -> None:
        try:
            await demo.run(ready.api, say)
        except* ApiError as failures:
            raise FrontDoorError(f"the demo cannot go on: {failures.exceptions[0]}") from None

    # A fresh shop each time: what an earlier demo sold must not be missing from this one's shelves.
    with tempfile.TemporaryDirectory(prefix="stocktide-demo-", ignore_cleanup_errors=True) as folder:
        options = up.UpOptions(settings=replace(settings, data=Path(folder)))
        return up.run(options, say, trade)
