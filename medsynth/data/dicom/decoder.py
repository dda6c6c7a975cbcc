"""One call of pydicom's decoders, where need be in a process of its own: this file is also the program of that process.

GDCM ends the whole process on some damaged JPEG streams, and CharLS can run for minutes. Neither must end or stop a
run, so they work next door and are given up when they fall silent. The file imports pydicom alone and so starts fast.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

ROBUST = ("", "pillow", "pydicom")  # plugins that refuse damaged streams by an exception, in time
_PATIENCE = 60.0  # seconds for one file
_neighbor: _Neighbor | None = None


def decode(uid: str, plugin: str, content: bytes, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """All frames of encoded pixel data as ``Decoder.as_array`` gives them, with their properties.

    Raises:
        Exception: of many kinds; the content is damaged.
    """
    return get_decoder(UID(uid)).as_array(content, decoding_plugin=plugin, **options)


def decode_safely(uid: str, plugin: str, content: bytes, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """``decode``, next door where the plugin is not robust.

    Raises:
        Exception: of many kinds; the content is damaged.
    """
    if plugin in ROBUST:
        return decode(uid, plugin, content, options)
    global _neighbor
    if _neighbor is None or not _neighbor.mine():
        _neighbor = _Neighbor()
    answer = _neighbor.ask((uid, plugin, content, options))
    if answer is None:
        raise ValueError("the decoder refuses this content")
    return answer


class _Neighbor:
    """The process next door. It ends by itself once the pipe to it is closed."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        # -P: this folder's own file names must not hide other modules. What GDCM prints is not for users.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self.close)

    def mine(self) -> bool:
        """Whether it is there and was started by this process: a forked one must not talk into its parent's pipe."""
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(self, request: tuple[Any, ...]) -> Any:
        """Its answer; None where it refuses, crashes or takes too long."""
        timer = threading.Timer(_PATIENCE, self._process.kill)
        timer.start()
        try:
            pickle.dump(request, self._process.stdin, protocol=5)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()
            return None
        finally:
            timer.cancel()

    def close(self) -> None:
        """End it, if it is this process's own."""
        atexit.unregister(self.close)
        if self._owner == os.getpid():
            self._process.kill()
            with contextlib.suppress(OSError):
                self._process.communicate()


def _serve() -> None:
    logging.disable()
    warnings.simplefilter("ignore")
    # What C libraries print goes elsewhere: the answers have the pipe to themselves.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = decode(*request)
        except Exception:  # as ``decode`` says
            answer = None
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    _serve()
