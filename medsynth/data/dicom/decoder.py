"""Calls of pydicom's decoders, if necessary in a separate process: this file is also the program of that process.

GDCM crashes on some damaged JPEG streams, and CharLS can run for minutes. Neither must end or block a run, so they
decode in a separate process, which is killed when it does not respond. The file imports only pydicom, to start fast.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
from pydicom.pixels import get_decoder  # pyright: ignore[reportPrivateImportUsage]
from pydicom.uid import UID

ROBUST = ("", "pillow", "pydicom")  # plugins that soon raise an exception for damaged streams
_PR_SET_PDEATHSIG = 1  # prctl(2)
_TIMEOUT = 60.0  # seconds for one file
_process: _DecoderProcess | None = None


def decode(uid: str, plugin: str, content: bytes, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode all frames with pydicom's ``Decoder.as_array``, and return them with their properties.

    Raises:
        Exception: of many kinds; the content is damaged.
    """
    return get_decoder(UID(uid)).as_array(content, decoding_plugin=plugin, **options)


def decode_safely(uid: str, plugin: str, content: bytes, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Call ``decode``, in a separate process if the plugin is not robust.

    Raises:
        Exception: of many kinds; the content is damaged.
    """
    if plugin in ROBUST:
        return decode(uid, plugin, content, options)
    global _process
    if _process is None or not _process.usable():
        _process = _DecoderProcess()
    result = _process.request((uid, plugin, content, options))
    if result is None:
        raise ValueError("the decoder refuses this content")
    return result


class _DecoderProcess:
    """A process that runs this file as its program. It ends by itself once the pipe to it is closed."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        # -P: the names of the files beside this one must not hide other modules. GDCM's output is not for users.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        atexit.register(self.close)

    def usable(self) -> bool:
        """Return whether it runs and was started by this process: a fork must not write into its parent's pipe."""
        return self._owner == os.getpid() and self._process.poll() is None

    def request(self, arguments: tuple[Any, ...]) -> Any:
        """Return the result of ``decode``; None if it raises, crashes or takes too long."""
        timer = threading.Timer(_TIMEOUT, self._process.kill)
        timer.start()
        try:
            pickle.dump(arguments, self._stdin, protocol=5)
            self._stdin.flush()
            return pickle.load(self._stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()
            return None
        finally:
            timer.cancel()

    def close(self) -> None:
        """Kill the process, if this process has started it."""
        atexit.unregister(self.close)
        if self._owner == os.getpid():
            self._process.kill()
            with contextlib.suppress(OSError):
                self._process.communicate()


def _serve() -> None:
    if sys.platform.startswith("linux"):  # a long decoding must not outlive the process that waits for it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the process that waits
    logging.disable()
    warnings.simplefilter("ignore")
    # C libraries print to standard output: it is redirected, so that the pipe carries results alone.
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            result = decode(*arguments)
        except Exception:  # see ``decode``
            result = None
        pickle.dump(result, results, protocol=5)
        results.flush()


if __name__ == "__main__":
    _serve()
