"""The long runs: what `make soak` runs. Every test that is marked `soak`, on whatever this machine lets us do.

`STOCKTIDE_SOAK_SECONDS` and `STOCKTIDE_SOAK_SEED` change how long faults strike, and which.
"""

from __future__ import annotations

import subprocess
import sys

from tests.packages import CLOCKS, SECOND_REDIS, note_of


def main() -> int:
    """Run them; pytest's status."""
    notes = [note for note in (note_of(CLOCKS), note_of(SECOND_REDIS)) if note]
    for note in notes:
        sys.stdout.write(f"!!! {note}\n")
    sys.stdout.flush()
    status = subprocess.run([sys.executable, "-m", "pytest", "-m", "soak", "-s", "tests"], check=False).returncode
    for note in notes:
        sys.stdout.write(f"!!! {note}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
