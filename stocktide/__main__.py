"""The entry point: runs the command line, and ends quietly when a user stops it while modules are imported.

In: the arguments of the process. Out: an exit status.
"""

from __future__ import annotations

import sys

# A shell's status for a program that Ctrl-C ended.
INTERRUPTED_STATUS = 130


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from stocktide.command_line import run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_STATUS)


if __name__ == "__main__":
    main()
