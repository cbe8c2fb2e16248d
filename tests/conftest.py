"""The fixtures of real servers and systems for all tests; each starts on demand."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.harness.servers", "tests.harness.system"]

# On a shared machine an example may take any time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
