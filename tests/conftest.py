"""The fixtures of real servers and systems for all tests; each starts on demand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

pytest_plugins = ["tests.harness.servers", "tests.harness.system"]

# On a shared machine an example may take any time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


# The folders, and in them the files, whose tests take longest run first: at the end, where several processes share the
# tests, none of them waits for one that just began a long file. The last files leave thousands of SKUs in the system
# that their folder shares, and each later change of a policy would concern all of them.
FOLDERS = ("faults", "browser", "integration", "protocol", "ledger", "deploy", "unit")
LAST_FILES = ("feed",)
LONG_FILES = ("worker", "stalls", "start", "explain", "replay", "up", "package", "sizes", "rebuild")
# All files of such a folder share a system.
SHARING_FOLDERS = (
    "tests/browser/board",
    "tests/integration/access",
    "tests/integration/api",
    "tests/integration/tools",
    "tests/integration/webhooks",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of real servers and browsers by their folder, and sort the files."""
    for item in items:
        if folder_of(item) in ("integration", "browser"):
            item.add_marker(folder_of(item))
    items.sort(key=lambda item: (FOLDERS.index(folder_of(item)), length_rank(item)))


class SharedSystems(LoadFileScheduling):
    """The tests of a file go to one process, and so do those of a folder that shares a system."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        folder = file.rpartition("/")[0]
        return folder if folder in SHARING_FOLDERS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SharedSystems:
    """For `-n`."""
    return SharedSystems(config, log)


def folder_of(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def length_rank(item: pytest.Item) -> int:
    """The place of its file among the long ones, or behind them; the last files come after all."""
    name = item.path.stem.removeprefix("test_")
    if name in LAST_FILES:
        return len(LONG_FILES) + 1
    return LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)
