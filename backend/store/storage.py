"""Where files are kept: a folder, or a prefix in object storage; which of them, its URL says."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import fsspec

LOCAL_SCHEMES = ("", "file")


class StorageUnavailable(Exception):
    """The object storage does not answer, or refuses us. Nothing is lost: what failed is tried again."""

    def __init__(self, url: str, error: Exception) -> None:
        reason = str(error).partition("\n")[0] or type(error).__name__
        super().__init__(
            f"The object storage {url} cannot be used ({reason}). No label is lost, and work goes on by itself when "
            "it answers again; if it does not, check STORAGE_URL, that the bucket exists, and the credentials."
        )


class Storage:
    """Files under one URL: paths are relative to it, with `/` between their parts.

    A reader sees a file whole or not at all. Methods raise StorageUnavailable where the URL is that of an object
    storage which cannot be used, and OSError where it is a folder.

    url: a folder, or `file://…`, `s3://bucket/prefix`, `gs://…`, `az://…`.
    """

    def __init__(self, url: str) -> None:
        self.is_local = urlsplit(url).scheme in LOCAL_SCHEMES
        if self.is_local:
            self.url = str(Path(url.removeprefix("file://")).absolute())
        else:
            self.url = url.rstrip("/")
        scheme = "file" if self.is_local else urlsplit(url).scheme
        # Without a cache of its own: what another process writes must be seen at once.
        self._files = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)

    def at(self, path: str) -> str:
        """The absolute path or the URL of a file or folder."""
        return f"{self.url}/{path}"

    def lance_options(self) -> dict[str, str]:
        """What Lance must be told to find the same files."""
        # Both find the endpoint and the credentials in the environment; Lance wants to be told that HTTP is meant.
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        return {"allow_http": "true"} if plain and not self.is_local else {}

    def names(self, path: str) -> list[str]:
        """Names of the files and folders in a folder, ascending; none where there is no such folder."""
        with self.reaching():
            try:
                found = self._files.ls(self.at(path), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({name.rstrip("/").rpartition("/")[2] for name in found})

    def version(self, path: str) -> str:
        """Another for each content of a file. Raises FileNotFoundError."""
        with self.reaching():
            return str(self._files.ukey(self.at(path)))

    def download(self, path: str, target: Path) -> None:
        """Copy a file from the storage. Raises FileNotFoundError."""
        with self.reaching():
            self._files.get_file(self.at(path), str(target))

    def upload(self, source: Path, path: str) -> None:
        """Copy a file into the storage, replacing the one there."""
        with self.reaching(writing=True):
            self._files.put_file(str(source), self.at(path))

    def move(self, source: str, target: str) -> None:
        """Rename a folder, replacing the one there."""
        self.delete(target)
        if self.is_local:
            Path(self.at(source)).replace(self.at(target))
            return
        with self.reaching():  # an object storage knows no folders, so there is nothing to rename
            begin = len(self._files._strip_protocol(self.at(source)))
            for path in self._files.find(self.at(source)):
                self._files.cp_file(path, self.at(target) + path[begin:])
        self.delete(source)

    def copy(self, source: str, target: str) -> None:
        """Copy a file, replacing the one there. Raises FileNotFoundError."""
        with self.reaching():
            self._files.cp_file(self.at(source), self.at(target))

    def delete(self, path: str) -> None:
        """Delete a file or a folder with all in it, if it is there."""
        if self.is_local:
            shutil.rmtree(self.at(path), ignore_errors=True)
            return
        with self.reaching(), suppress(FileNotFoundError):
            self._files.rm(self.at(path), recursive=True)

    def probe(self) -> None:
        """Ask whether the storage can be used at all: for those who failed and do not know why."""
        self.names("")

    @contextmanager
    def reaching(self, writing: bool = False) -> Iterator[None]:
        """Tell an outage from what else may go wrong in the block."""
        try:
            yield
        except Exception as error:
            # Where a file is written, what is missing is the bucket.
            if self.is_local or (isinstance(error, FileNotFoundError) and not writing):
                raise
            raise StorageUnavailable(self.url, error) from error
