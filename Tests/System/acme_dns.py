"""The two kinds of hooks that set TXT records for dns-01, in front of the mock DNS: a program and a server. Both record
their calls."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional

from acme_pebble import MockDNS
from harness import Bench

SCRIPT = """\
#!/bin/sh
# present|cleanup NAME VALUE
echo "$1 $2 $3" >>{calls}
case $1 in
    present) exec curl -sfS --noproxy '*' -d "{{\\"host\\":\\"${{2%.}}.\\",\\"value\\":\\"$3\\"}}" {url}/set-txt ;;
    cleanup) exec curl -sfS --noproxy '*' -d "{{\\"host\\":\\"${{2%.}}.\\"}}" {url}/clear-txt ;;
    *) echo "no such action: $1" >&2; exit 2 ;;
esac
"""


class ProgramHook:
    """A shell script, whose `path` is set in the configuration."""

    def __init__(self, bench: Bench, dns: MockDNS, name: str = "dns-hook"):
        self.path, self._calls = bench.folder / name, bench.folder / f"{name}.calls"
        self.path.write_text(SCRIPT.format(calls=self._calls, url=dns.url))
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[tuple[str, ...]]:
        """The calls in order, each as (present or cleanup, name, value)."""
        text = self._calls.read_text() if self._calls.exists() else ""
        return [tuple(line.split()) for line in text.splitlines()]


class ServerHook:
    """An HTTP server for `POST /present` and `POST /cleanup` with {"fqdn": …, "value": …}, as with many DNS tools.

    token: refuses requests without this bearer token.
    """

    def __init__(self, bench: Bench, dns: Optional[MockDNS], token: Optional[str] = None):
        self.dns = dns
        self.calls: list[tuple[str, str, str]] = []  # (present or cleanup, name, value), in order
        self.refused = 0
        self.token_file: Optional[Path] = None
        if token:
            self.token_file = bench.folder / "dns-hook-token"
            self.token_file.write_text(token + "\n")
            self.token_file.chmod(0o600)
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                action, name = self.path.rsplit("/", 1)[1], body["fqdn"].rstrip(".")
                if token and self.headers["Authorization"] != f"Bearer {token}":
                    hook.refused += 1
                    return self.answer(401)
                hook.calls.append((action, name, body["value"]))
                if action == "present":
                    hook.dns.set_txt(name, body["value"])
                elif action == "cleanup":
                    hook.dns.clear_txt(name)
                self.answer(200 if action in ("present", "cleanup") else 404)

            def answer(self, status: int):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> ServerHook:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
