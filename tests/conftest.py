"""Every test can ask for the real servers and the real system; nothing of it starts before one does."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.harness.servers", "tests.harness.system"]

# No test is a timed one: on a shared machine an example may take any time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
