from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backend.labelstudio.media_cache import MediaCache


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def age(folder: Path, number: int) -> None:
    """Makes a file look as if it was read long ago."""
    path = next(folder.rglob(key(number)))
    os.utime(path, (1, 1))


def test_keeps_what_is_put(tmp_path: Path):
    cache = MediaCache(tmp_path / "cache", 10_000)
    assert cache.get(key(1)) is None
    cache.put(key(1), b"one")
    cache.put(key(1), b"two")
    assert cache.get(key(1)) == b"two"
    assert MediaCache(tmp_path / "cache", 10_000).get(key(1)) == b"two"


def test_stays_within_its_size(tmp_path: Path):
    cache = MediaCache(tmp_path, 10_000)
    for number in range(300):
        cache.put(key(number), bytes(100))
        assert size(tmp_path) <= 10_000
    assert size(tmp_path) >= 8_000


def test_a_folder_left_too_full_is_trimmed(tmp_path: Path):
    large = MediaCache(tmp_path, 100_000)
    for number in range(100):
        large.put(key(number), bytes(1000))
    MediaCache(tmp_path, 20_000).put(key(1000), b"x")
    assert size(tmp_path) <= 20_000


def test_what_was_not_read_for_longest_goes_first(tmp_path: Path):
    cache = MediaCache(tmp_path, 10_000)
    for number in range(80):
        cache.put(key(number), bytes(100))
        age(tmp_path, number)
    assert cache.get(key(0)) is not None
    for number in range(100, 140):
        cache.put(key(number), bytes(100))
    assert cache.get(key(0)) is not None
    assert cache.get(key(139)) is not None
    assert sum(cache.get(key(number)) is None for number in range(1, 80)) > 10


def test_a_file_that_would_empty_the_cache_is_not_kept(tmp_path: Path):
    cache = MediaCache(tmp_path, 10_000)
    cache.put(key(1), bytes(100))
    cache.put(key(2), bytes(20_000))
    assert cache.get(key(1)) is not None
    assert cache.get(key(2)) is None


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog):
    cache = MediaCache(tmp_path / "cache", 10_000)
    (tmp_path / "cache" / key(1)[:2]).write_text("a file where the folder should be")
    cache.put(key(1), b"one")
    assert cache.get(key(1)) is None
    assert "cannot be written" in caplog.text


WRITER = """
import hashlib, sys
from pathlib import Path
from backend.labelstudio.media_cache import MediaCache
cache = MediaCache(Path(sys.argv[1]), 20_000)
for turn in range(10):
    for number in range(60):
        key = hashlib.sha256(str(number).encode()).hexdigest()
        kept = cache.get(key)
        assert kept is None or kept == bytes([number]) * 500, "a torn file"
        cache.put(key, bytes([number]) * 500)
"""


def test_processes_and_threads_share_a_folder(tmp_path: Path):
    def write(_: int) -> str:
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(write, range(3))) == ["", "", ""]
    assert 0 < size(tmp_path) <= 3 * 20_000
    MediaCache(tmp_path, 20_000).put(key(1), b"x")
    assert size(tmp_path) <= 20_000
    assert all(len(path.name) == 64 for path in tmp_path.rglob("*") if path.is_file())
