"""Files by key in a folder of bounded size, shared by threads and processes."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

# Looking at every file takes a while, so it is done once in so much writing, and then clears more than that.
CHECK_SHARE = 0.05
KEEP_SHARE = 0.9


class MediaCache:
    """Keeps at most `max_bytes`; the files that were not read for longest go first.

    A process looks after the size once in 5 % of it written, and then trims the folder to 90 %.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._unchecked = max_bytes  # an earlier process may have left the folder full
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, key: str) -> bytes | None:
        """key: hexadecimal, as of a hash."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keeps the data if there is room; a full or broken disk costs a warning, no more."""
        if len(data) > self._max_bytes * CHECK_SHARE:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(temporary).replace(path)
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            logger.warning("the media cache in %s cannot be written: %s", self._folder, error.strerror)
        with self._lock:
            self._unchecked += len(data)
            if self._unchecked >= self._max_bytes * CHECK_SHARE:
                self._unchecked = 0
                self._trim()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _trim(self) -> None:
        files = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):  # another process trims as well
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        size = sum(length for _, length, _ in files)
        if size <= self._max_bytes * KEEP_SHARE:
            return
        for _, length, path in sorted(files):
            if size <= self._max_bytes * KEEP_SHARE:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            size -= length
