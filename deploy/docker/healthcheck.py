#!/usr/bin/env python3
"""Asks the process of this container whether it lives: status 0 if so. `healthcheck /readyz` asks if it can work.

A container runs an API or a worker: whichever of their two ports answers is asked.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

# Below the timeout of Docker, so that the reason is in its log.
SECONDS_MAX = 4.0


def main() -> int:
    path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    # The certificate bears the name by which clients know the API.
    unverified = ssl._create_unverified_context()
    scheme = "https" if os.environ.get("STOCKTIDE_TLS_CERT") else "http"
    reasons = []
    for url in (
        f"{scheme}://127.0.0.1:{os.environ.get('STOCKTIDE_PORT', '8080')}{path}",
        f"http://127.0.0.1:{os.environ.get('STOCKTIDE_WORKER_PORT', '8081')}{path}",
    ):
        try:
            with urllib.request.urlopen(url, timeout=SECONDS_MAX / 2, context=unverified):
                return 0
        except urllib.error.HTTPError as error:
            reasons.append(f"{url}: {error.code} {error.read(500).decode(errors='replace')}")
        except OSError as error:
            reasons.append(f"{url}: {error}")
    sys.stderr.write("\n".join(reasons) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
