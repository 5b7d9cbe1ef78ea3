"""The arrays of an .npz file, each checked before any memory is taken for it."""

import math
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from backend.simulation.datasets.errors import DatasetError

npy: Any = np.lib.format  # whose functions have no types

MAX_UNPACKED_BYTES = 4 << 30  # in memory; what is not compressed may be larger
# Of a member of a zip archive: the lengths of its name and its extra field.
LOCAL_HEADER = struct.Struct("<26xHH")


class NpzFile:
    """An open .npz file; a context manager.

    Raises DatasetError where it is damaged, holds Python objects, or unpacks to more than fits in memory.

    Attributes:
        shapes: of its arrays, by name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise DatasetError(
                f"{path} is damaged, or no .npz file: write it again with numpy.savez."
            ) from None
        self._members = {
            info.filename.removesuffix(".npy"): info
            for info in self._archive.infolist()
            if info.filename.endswith(".npy")
        }
        self.shapes: dict[str, tuple[int, ...]] = {name: self._header(name)[0] for name in self._members}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._archive.close()

    def array(self, name: str, *, mapped: bool = False) -> NDArray[Any]:
        """One of its arrays; `mapped` into memory rather than read, where the file is not compressed."""
        info = self._members[name]
        shape, fortran, dtype, start = self._header(name)
        if dtype.hasobject:
            raise DatasetError(
                f"{self._path}: {name} holds Python objects, which are not read: convert it to numbers or strings."
            )
        size = math.prod(shape) * dtype.itemsize
        if start + size != info.file_size:
            raise self._damaged(name)
        if mapped and size and info.compress_type == zipfile.ZIP_STORED:
            offset = self._offset(info) + start
            return np.asarray(np.memmap(self._path, dtype, "r", offset, shape, order="F" if fortran else "C"))
        if size > MAX_UNPACKED_BYTES:
            raise DatasetError(
                f"{self._path}: {name} unpacks to {size:,} bytes: write it uncompressed, with numpy.savez."
            )
        return self._read(name, info)

    def _read(self, name: str, info: zipfile.ZipInfo) -> NDArray[Any]:
        try:
            with self._archive.open(info) as member:
                array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
                return array
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError):
            raise self._damaged(name) from None

    def _header(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        """Shape, whether it is in Fortran's order, type, and where the values begin."""
        try:
            with self._archive.open(self._members[name]) as member:
                shape, fortran, dtype = _npy_header(member)
                return shape, fortran, dtype, member.tell()
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError):
            raise self._damaged(name) from None

    def _offset(self, info: zipfile.ZipInfo) -> int:
        """Where the content of a member begins that is not compressed."""
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        return int(info.header_offset + LOCAL_HEADER.size + name_length + extra_length)

    def _damaged(self, name: str) -> DatasetError:
        return DatasetError(f"{self._path}: {name} is damaged: write the file again with numpy.savez.")


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype
