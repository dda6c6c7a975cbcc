"""The report of runs that still go on, served to this machine alone."""

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
    """Serve the page on 127.0.0.1 until it is interrupted; ``port`` 0 takes a free one.

    Raises:
        InputError: a folder holds no run, or the port is taken.
    """
    server = live_server(folders, metric=metric, port=port)
    address = f"http://127.0.0.1:{server.server_port}/"
    print(f"The report is at {address} and follows its files; Ctrl+C ends it.", flush=True)
    if open_browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


def live_server(folders: Sequence[Path], *, metric: str | None = None, port: int = 0) -> ThreadingHTTPServer:
    """A server of ``/``, the page, and ``/version``, which changes when files do; it does not run yet."""
    render(read_runs(folders), metric, live=True)  # what is wrong is said before anything is served

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/version":
                self._answer(version(folders), "text/plain")
            elif self.path == "/":
                self._answer(render(read_runs(folders), metric, live=True), "text/html")
            else:
                self.send_error(404)

        def _answer(self, text: str, kind: str) -> None:
            content = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: the terminal may be that of the sweep."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        reason = error.strerror or "not a port"
        raise InputError(f"port={port} cannot be used ({reason}): choose another, or 0 for a free one.") from error


def version(folders: Sequence[Path]) -> str:
    """Changes when a file that the report reads is written, or appears."""
    patterns = [at + pattern for at in ("", "*/") for pattern in _WATCHED]
    found = [path for folder in folders for pattern in patterns for path in folder.glob(pattern)]
    stamps = [path.stat().st_mtime_ns for path in found if path.is_file()]
    return f"{len(stamps)}-{max(stamps, default=0)}"
