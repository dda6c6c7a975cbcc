"""One array of an .npz file, read row by row, as some are larger than memory. Pickled objects are never loaded."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from medsynth.data.reading import Unreadable
from medsynth.data.tree import LARGEST

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PIECE = 2**20  # bytes


class NpzArray:
    """An array of numbers, ``shape`` and ``dtype`` at once and its rows when they are asked for.

    The archive's checksum is compared before the first row is handed out, in each process, as it stands at the end.

    Args:
        path: the .npz file, a zip archive of .npy files.
        name: of the array, ``train_images.npy``.

    Raises:
        Unreadable: the array is damaged, or is none of numbers in the order of C.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._stream: zipfile.ZipExtFile | None = None
        with self._open() as stream:
            try:
                self.shape, fortran_order, self.dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
                self._start = stream.tell()
            except Exception as error:  # ValueError, KeyError of a version, zlib.error, SyntaxError in the header ...
                raise Unreadable("an array's header is damaged") from error
        if self.dtype.kind not in "biuf" or (fortran_order and len(self.shape) > 1):
            raise Unreadable("an array holds no numbers, or in the order of columns")
        if any(extent < 0 for extent in self.shape) or self._row_bytes > LARGEST:
            raise Unreadable("an array's header is damaged")

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def rows(self, start: int, stop: int) -> np.ndarray:
        """``array[start:stop]``; quick in rising order, else from the start again.

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

    def _checked(self) -> zipfile.ZipExtFile:
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

    def _open(self) -> zipfile.ZipExtFile:
        try:
            with zipfile.ZipFile(self._path) as archive:
                return archive.open(self._name)  # which keeps the file open after the archive is closed
        except Exception as error:  # BadZipFile, KeyError, NotImplementedError, RuntimeError (encrypted), OSError ...
            raise Unreadable("the archive is damaged") from error

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_stream": None}  # each process opens the file anew
