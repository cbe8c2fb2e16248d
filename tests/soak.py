"""The long runs of `make soak`: every test that is marked `soak`.

`STOCKTIDE_SOAK_SECONDS` and `STOCKTIDE_SOAK_SEED` set the duration and the seed of the fault runs.
"""

from __future__ import annotations

import subprocess
import sys

from tests.check import say
from tests.packages import CLOCKS, NPM, SECOND_REDIS, warnings_about


def main() -> int:
    """Run the tests between the warnings; pytest's status."""
    warnings = [f"!!! {warning}" for warning in warnings_about(CLOCKS, SECOND_REDIS, NPM)]
    for warning in warnings:
        say(warning)
    status = subprocess.run([sys.executable, "-m", "pytest", "-m", "soak", "-s", "tests"], check=False).returncode
    for warning in warnings:
        say(warning)
    return status


if __name__ == "__main__":
    sys.exit(main())
