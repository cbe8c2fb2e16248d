"""Every test can ask for the real servers and the real system; nothing of it starts before one does."""

from __future__ import annotations

pytest_plugins = ["tests.servers", "tests.system"]
