"""A report that follows running trainings, served to this machine only."""

from __future__ import annotations

import contextlib
import re
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from medsynth.errors import InputError, sentence_of
from medsynth.report.page import render
from medsynth.report.runs import read_runs

_WATCHED = (
    *("*.json", "metrics.csv", "samples/*.png"),
    *(f"{folder}/*.json" for folder in ("evaluation", "utility", "audit", "verdict", "report")),
)
# Names of this machine that no one else can have a browser resolve to it. Any port: it may be forwarded by ssh -L.
_OWN_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE | re.ASCII)
_FOREIGN_HOST = "This report is served to this machine only: open it at http://localhost, with its port."
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def serve(folders: Sequence[Path], *, metric: str | None = None, port: int = 0, open_browser: bool = False) -> None:
    """Serve the page on 127.0.0.1 until interrupted; ``port`` 0 takes a free one.

    Raises:
        InputError: a folder has no run, or the port is in use.
    """
    server = live_server(folders, metric=metric, port=port)
    address = f"http://127.0.0.1:{server.server_port}/"
    print(f"The report is at {address} and is updated while files change; Ctrl+C ends it.", flush=True)
    if open_browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a browser that closed its page is no error."""


def live_server(folders: Sequence[Path], *, metric: str | None = None, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of ``/``, the page, and ``/version``, which changes when files do; it is not started.

    It answers requests that name this machine as localhost, 127.0.0.1 or [::1]. A page of another site could otherwise
    read the report, by a name of its own that it has resolved to 127.0.0.1 (DNS rebinding).
    """
    render(read_runs(folders), metric, live=True)  # raises errors before anything is served

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "medsynth", ""

        def do_GET(self) -> None:
            hosts = self.headers.get_all("Host") or []
            if len(hosts) != 1 or not _OWN_HOST.fullmatch(hosts[0].strip()):
                self._respond(_FOREIGN_HOST, "text/plain", HTTPStatus.FORBIDDEN)
            elif self.path == "/version":
                self._respond(version(folders), "text/plain")
            elif self.path == "/":
                self._respond(*self._page())
            else:
                self._respond("There is no such page.", "text/plain", HTTPStatus.NOT_FOUND)

        def _page(self) -> tuple[str, str, HTTPStatus]:
            try:
                return render(read_runs(folders), metric, live=True), "text/html", HTTPStatus.OK
            except (InputError, OSError) as error:  # a run was deleted or moved since
                return sentence_of(error), "text/plain", HTTPStatus.SERVICE_UNAVAILABLE

        def _respond(self, text: str, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def end_headers(self) -> None:
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: the terminal may be that of the sweep."""

    try:
        return _Server(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "not a port"
        raise InputError(f"port={port} cannot be used ({reason}): choose another, or 0 for a free one.") from error


def version(folders: Sequence[Path]) -> str:
    """Return a text that changes whenever a file that the report reads is written or created."""
    patterns = [below + pattern for below in ("", "*/") for pattern in _WATCHED]
    found = [path for folder in folders for pattern in patterns for path in folder.glob(pattern)]
    stamps = []
    for path in found:
        with contextlib.suppress(OSError):  # deleted since
            stamps.append(path.stat().st_mtime_ns)
    return f"{len(stamps)}-{max(stamps, default=0)}"
