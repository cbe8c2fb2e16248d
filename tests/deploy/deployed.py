"""What the tests of `deploy/` have in common.

In: files of `deploy/`. Out: their content, and what is wrong with the settings that they make.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stocktide.settings import Settings, unread_variables

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def check_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that variables make; fails if one of them is none of ours. Passwords and certificates are files that
    are not there, so they are left out."""
    ours = {name: value for name, value in environ.items() if name.startswith("STOCKTIDE_")}
    assert ours
    assert not unread_variables(ours)
    kept = {name: value for name, value in ours.items() if not value.startswith("/") or name == "STOCKTIDE_DATA"}
    for name in ("STOCKTIDE_KAFKA_SASL_PASSWORD", "STOCKTIDE_REDIS_PASSWORD"):
        if f"{name}_FILE" in ours:
            kept[name] = "a password"
    return Settings.from_environment(kept)
