"""A report that follows running trainings, served to this machine only."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from medsynth.errors import InputError
from medsynth.report.page import render
from medsynth.report.runs import read_runs

_WATCHED = ("*.json", "metrics.csv", "samples/*.png", "evaluation/*.json")


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


def live_server(folders: Sequence[Path], *, metric: str | None = None, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of ``/``, the page, and ``/version``, which changes when files do; it is not started."""
    render(read_runs(folders), metric, live=True)  # raises errors before anything is served

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/version":
                self._respond(version(folders), "text/plain")
            elif self.path == "/":
                self._respond(render(read_runs(folders), metric, live=True), "text/html")
            else:
                self.send_error(404)

        def _respond(self, text: str, kind: str) -> None:
            content = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: the terminal may be that of the sweep."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        reason = error.strerror or "not a port"
        raise InputError(f"port={port} cannot be used ({reason}): choose another, or 0 for a free one.") from error


def version(folders: Sequence[Path]) -> str:
    """Return a text that changes whenever a file that the report reads is written or created."""
    patterns = [below + pattern for below in ("", "*/") for pattern in _WATCHED]
    found = [path for folder in folders for pattern in patterns for path in folder.glob(pattern)]
    stamps = [path.stat().st_mtime_ns for path in found if path.is_file()]
    return f"{len(stamps)}-{max(stamps, default=0)}"
