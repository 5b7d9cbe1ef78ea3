"""What is made at the price of time and kept: learners, trained embedders, a round's opinions. Each is a folder.

An artifact has a key, such as `projects/3/models/round-2-abcdef/kind`. In a folder its files are under that path. On
object storage it is one file, so that a reader sees all of it or nothing; what is read is cached on the local disk.
"""

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from backend.store.storage import Storage

SUFFIX = ".zip"
COPIES_KEPT = 64  # of artifacts on object storage, the last used ones
# What reading a ZIP file raises that is not one, or not as we write them: encrypted, of an unknown version, cut short.
DAMAGE = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, IndexError)


def project_artifacts(project_id: int) -> str:
    """The key under which all artifacts of a project are."""
    return f"projects/{project_id}"


def models(project_id: int) -> str:
    """The key under which the rounds of a project keep what they learned, each under its version."""
    return f"{project_artifacts(project_id)}/models"


class Artifacts(Protocol):
    """Artifacts by key. Methods may raise `storage.StorageUnavailable` or OSError."""

    def address(self, key: str) -> str:
        """Where the artifact is: the same for all processes, another for each storage and key."""

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A local folder to write the artifact into; others see it when the block ends without an exception."""
        yield Path()

    @contextmanager
    def updating(self, key: str) -> Iterator[Path]:
        """Like `writing`, but the folder has the artifact's files, if there are any."""
        yield Path()

    def reading(self, key: str) -> Path:
        """A local folder with the artifact's files. Raises FileNotFoundError where it is missing or damaged."""

    def copy(self, source: str, target: str) -> None:
        """Keep an artifact under another key as well. Raises FileNotFoundError."""

    def names(self, key: str) -> list[str]:
        """What is kept under a key: the next part of the keys that begin with it, ascending."""

    def delete(self, key: str) -> None:
        """Delete the artifact, or all artifacts under a key."""


def artifacts_in(storage: Storage, cache: Path) -> Artifacts:
    """The artifacts in a storage. cache: a local folder for copies, where the storage is not local itself."""
    return FolderArtifacts(Path(storage.url)) if storage.is_local else StoredArtifacts(storage, cache)


class FolderArtifacts:
    """Artifacts in a local folder, or one that all machines mount: read and written in place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def address(self, key: str) -> str:
        """See `Artifacts`."""
        return str(self._folder / key)

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """See `Artifacts`; each file is replaced in one step by those who write weights."""
        yield self._folder / key

    updating = writing

    def reading(self, key: str) -> Path:
        """See `Artifacts`; a file that is missing or damaged is found out by whoever opens it."""
        return self._folder / key

    def copy(self, source: str, target: str) -> None:
        """See `Artifacts`."""
        shutil.copytree(self._folder / source, self._folder / target, dirs_exist_ok=True)

    def names(self, key: str) -> list[str]:
        """See `Artifacts`."""
        folder = self._folder / key
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def delete(self, key: str) -> None:
        """See `Artifacts`."""
        shutil.rmtree(self._folder / key, ignore_errors=True)


class StoredArtifacts:
    """Artifacts on object storage: a ZIP file each, its checksums telling damage."""

    def __init__(self, storage: Storage, cache: Path) -> None:
        self._storage, self._cache = storage, cache

    def address(self, key: str) -> str:
        """See `Artifacts`."""
        return self._storage.at(key)

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """See `Artifacts`."""
        with self._scratch() as scratch:
            folder = scratch / "files"
            folder.mkdir()
            yield folder
            self._publish(folder, key)

    @contextmanager
    def updating(self, key: str) -> Iterator[Path]:
        """See `Artifacts`."""
        with self._scratch() as scratch:
            folder = scratch / "files"
            folder.mkdir()
            with suppress(FileNotFoundError):
                shutil.copytree(self.reading(key), folder, dirs_exist_ok=True)
            before = _state(folder)
            yield folder
            if _state(folder) != before:
                self._publish(folder, key)

    def reading(self, key: str) -> Path:
        """See `Artifacts`; asks the storage whether the copy is still that of the artifact."""
        version = self._storage.version(key + SUFFIX)
        # Keys may be longer than names of files may be.
        copy = self._cache / hashlib.sha256(f"{self.address(key)}\n{version}".encode()).hexdigest()
        if not copy.is_dir():
            self._fetch(key, copy)
        with suppress(
            FileNotFoundError
        ):  # another process has just dropped it: whoever reads it, tries again
            os.utime(copy)
        return copy

    def copy(self, source: str, target: str) -> None:
        """See `Artifacts`."""
        self._storage.copy(source + SUFFIX, target + SUFFIX)

    def names(self, key: str) -> list[str]:
        """See `Artifacts`."""
        return [name.removesuffix(SUFFIX) for name in self._storage.names(key)]

    def delete(self, key: str) -> None:
        """See `Artifacts`."""
        self._storage.delete(key + SUFFIX)
        self._storage.delete(key)

    def _publish(self, folder: Path, key: str) -> None:
        packed = folder.with_name("packed")
        with zipfile.ZipFile(packed, "w") as archive:
            for path in _files(folder):
                archive.write(path, path.relative_to(folder))
        self._storage.upload(packed, key + SUFFIX)

    def _fetch(self, key: str, copy: Path) -> None:
        with self._scratch() as scratch:
            folder, packed = scratch / "files", scratch / "packed"
            self._storage.download(key + SUFFIX, packed)
            try:
                _unpack(packed, folder)
            except DAMAGE as error:
                raise FileNotFoundError(f"{self.address(key)} is damaged and as good as missing") from error
            with suppress(OSError):  # another process was faster
                folder.rename(copy)
        copies = [path for path in self._cache.iterdir() if not path.name.startswith(".")]
        for old in sorted(copies, key=_last_used)[:-COPIES_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=self._cache) as folder:
            yield Path(folder)


def _unpack(packed: Path, folder: Path) -> None:
    """Write the files of an archive into a folder. Raises what is in DAMAGE."""
    with zipfile.ZipFile(packed) as archive:
        entries = archive.infolist()
        # Ours are stored as they are: what unpacks to more than it is could fill the disk.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise zipfile.BadZipFile("its files are compressed")
        if sum(entry.file_size for entry in entries) > packed.stat().st_size:
            raise zipfile.BadZipFile("its files overlap")
        if any(entry.header_offset < 0 for entry in entries):
            raise zipfile.BadZipFile("its files begin before it")
        archive.extractall(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _state(folder: Path) -> list[tuple[Path, int, int]]:
    """Another after any file was written."""
    return [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in _files(folder)]


def _last_used(copy: Path) -> float:
    try:
        return copy.stat().st_mtime
    except FileNotFoundError:  # dropped by another process
        return 0.0
