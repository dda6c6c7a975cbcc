"""Row-by-row reading of an array in an .npz file, which may exceed the memory. Pickled objects are never loaded."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from medsynth.data.errors import Unreadable
from medsynth.data.tree import LARGEST

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PIECE = 2**20  # bytes


class NpzArray:
    """An array of numbers: ``shape`` and ``dtype`` are read at once, its rows on demand.

    The archive's checksum, which follows the data, is compared before the first row is returned, in each process.

    Args:
        path: the .npz file, a zip archive of .npy files.
        name: of the array's file, ``train_images.npy``.

    Raises:
        Unreadable: the array is damaged, does not hold numbers, or is stored in Fortran order.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._stream: IO[bytes] | None = None
        with self._open() as stream:
            try:
                self.shape, fortran_order, self.dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
                self._start = stream.tell()
            except Exception as error:  # ValueError, KeyError of a version, zlib.error, SyntaxError in the header ...
                raise Unreadable("an array's header is damaged") from error
        if self.dtype.kind not in "biuf" or (fortran_order and len(self.shape) > 1):
            raise Unreadable("an array does not hold numbers, or is stored in Fortran order")
        if any(extent < 0 for extent in self.shape) or self._row_bytes > LARGEST:
            raise Unreadable("an array's header is damaged")

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return ``array[start:stop]``; fast in ascending order, otherwise the file is read from its start.

        Raises:
            Unreadable: the array is damaged.
        """
        stop = min(stop, len(self))
        if (stop - start) * self._row_bytes > LARGEST:
            raise Unreadable(f"an array claims more than {LARGEST / 2**30:.0f} GiB")
        try:
            stream = self._checked()
            stream.seek(self._start + start * self._row_bytes)
            content = stream.read((stop - start) * self._row_bytes)
        except (OSError, ValueError, EOFError) as error:
            raise Unreadable("an array is damaged or cut off") from error
        return np.frombuffer(content, self.dtype).reshape(stop - start, *self.shape[1:])

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _checked(self) -> IO[bytes]:
        if self._stream is None:
            size = 0
            with self._open() as stream:
                try:
                    while piece := stream.read(_PIECE):
                        size += len(piece)
                except Exception as error:  # BadZipFile (the checksum), zlib.error, EOFError ...
                    raise Unreadable("an array is damaged or cut off") from error
            if size != self._start + len(self) * self._row_bytes:
                raise Unreadable("an array is not as large as its header says")
            self._stream = self._open()
        return self._stream

    def _open(self) -> IO[bytes]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                return archive.open(self._name)  # it keeps the file open after the archive is closed
        except Exception as error:  # BadZipFile, KeyError, NotImplementedError, RuntimeError (encrypted), OSError ...
            raise Unreadable("the archive is damaged") from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stream": None}  # each process opens the file anew
