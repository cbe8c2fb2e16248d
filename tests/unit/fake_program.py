"""A fake of the worker or the API: it answers `/readyz` on a port, or ends at once with a message and a status."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(arguments: list[str]) -> int:
    """`serve PORT`, or `end STATUS WORD`."""
    if arguments[0] == "end":
        sys.stderr.write(f"{arguments[2]}\n")
        return int(arguments[1])
    HTTPServer(("127.0.0.1", int(arguments[1])), _Ready).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
