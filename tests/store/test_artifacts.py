import io
import itertools
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import numpy as np
import pytest

from backend.store.artifacts import DAMAGE, Artifacts, _unpack, artifacts_in
from backend.store.embeddings import DamagedEmbeddings, EmbeddingStore
from backend.store.storage import Storage, StorageUnavailable
from tests.object_storage import BUCKET, S3Server, s3_server

KEY = "projects/1/models/round-1-abc/kind"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, s3: S3Server, tmp_path: Path) -> Storage:
    url = str(tmp_path / "storage") if request.param == "folder" else f"{s3.url}/{request.node.originalname}"
    return Storage(url)


@pytest.fixture
def artifacts(storage: Storage, tmp_path: Path) -> Artifacts:
    return artifacts_in(storage, tmp_path / "cache")


def keep(artifacts: Artifacts, key: str, text: str) -> None:
    with artifacts.writing(key) as folder:
        (folder / "part").mkdir(parents=True, exist_ok=True)
        (folder / "part" / "file").write_text(text)


def kept(artifacts: Artifacts, key: str) -> str:
    return (artifacts.reading(key) / "part" / "file").read_text()


def test_what_was_written_is_read_also_by_another_machine(
    artifacts: Artifacts, storage: Storage, tmp_path: Path
) -> None:
    another = artifacts_in(storage, tmp_path / "another cache")
    keep(artifacts, KEY, "first")
    assert kept(artifacts, KEY) == kept(another, KEY) == "first"
    keep(another, KEY, "second")
    assert kept(artifacts, KEY) == kept(another, KEY) == "second"


def test_names_copies_and_deletion(artifacts: Artifacts) -> None:
    keep(artifacts, KEY, "first")
    keep(artifacts, KEY + "@opinions", "of it")
    artifacts.copy(KEY, "projects/1/models/round-2-abc/kind")
    assert artifacts.names("projects/1/models") == ["round-1-abc", "round-2-abc"]
    assert artifacts.names("projects/1/models/round-1-abc") == ["kind", "kind@opinions"]
    artifacts.delete("projects/1/models/round-1-abc")
    assert artifacts.names("projects/1/models") == ["round-2-abc"]
    assert kept(artifacts, "projects/1/models/round-2-abc/kind") == "first"
    artifacts.delete("projects/1")
    artifacts.delete("projects/1")
    assert artifacts.names("projects/1/models") == []
    with pytest.raises(FileNotFoundError):
        kept(artifacts, "projects/1/models/round-2-abc/kind")


def test_an_update_is_kept_where_it_wrote_something(artifacts: Artifacts, storage: Storage) -> None:
    with artifacts.updating(KEY) as folder:
        assert not (folder / "file").exists()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_text("first")
    with artifacts.updating(KEY) as folder:
        assert (folder / "file").read_text() == "first"
        (folder / "other").write_text("second")
    assert {path.name for path in artifacts.reading(KEY).iterdir()} == {"file", "other"}
    if storage.is_local:
        return
    before = storage.version(KEY + ".zip")
    with artifacts.updating(KEY):
        pass
    assert storage.version(KEY + ".zip") == before


@pytest.fixture
def stored(s3: S3Server, tmp_path: Path) -> Artifacts:
    return artifacts_in(Storage(s3.url), tmp_path / "cache")


@pytest.mark.parametrize("damage", ["zeros", "cut short", "one byte"])
def test_damage_is_noticed_although_there_is_a_copy(stored: Artifacts, damage: str) -> None:
    keep(stored, KEY, "a content of some length" * 10)
    assert kept(stored, KEY)
    found = boto3.resource("s3").Object(BUCKET, f"team-a/{KEY}.zip")
    content = bytearray(found.get()["Body"].read())
    if damage == "zeros":
        content = bytearray(len(content))
    elif damage == "cut short":
        content = content[: len(content) // 2]
    else:
        content[100] ^= 1
    found.put(Body=bytes(content))
    with pytest.raises(FileNotFoundError, match="damaged"):
        stored.reading(KEY)


def deflated() -> bytes:
    """A bomb: a thousandth of what it unpacks to."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("file", bytes(10 << 20))
    return packed.getvalue()


def overlapping() -> bytes:
    """Another: each file is in the one before, with its header."""
    content, entries = bytes(100_000), []
    for number in range(100):
        entry = zipfile.ZipInfo(f"file-{number}")
        entry.CRC, entry.file_size, entry.compress_size = zlib.crc32(content), len(content), len(content)
        content = entry.FileHeader() + content
        entry.header_offset = -len(content)
        entries.append(entry)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        packed.write(content)
        for entry in entries:
            entry.header_offset += len(content)
        archive.filelist += entries
        archive.start_dir = len(content)
        archive.writestr("last", b"")
    return packed.getvalue()


def altered(place: int, value: int) -> bytes:
    """An archive of one file, with another value in its entry of the directory, and where the file has it, too."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("file", b"content")
    content = bytearray(packed.getvalue())
    entry = content.index(b"PK\x01\x02")
    content[place - 2] = content[entry + place] = value
    return bytes(content)


OTHERS = {
    "deflated": deflated(),
    "overlapping": overlapping(),
    "of a later version": altered(6, 99),
    "encrypted": altered(8, 1),
    "patched": altered(8, 1 << 5),
    "of an unknown compression": altered(10, 99),
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS.keys())
def test_an_archive_that_is_not_as_we_write_them_is_damaged(stored: Artifacts, content: bytes) -> None:
    boto3.resource("s3").Object(BUCKET, f"team-a/{KEY}.zip").put(Body=content)
    with pytest.raises(FileNotFoundError, match="damaged"):
        stored.reading(KEY)


def test_no_damaged_byte_is_another_error(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("part/file", b"content")
    content = packed.read_bytes()
    for place, value in itertools.product(range(len(content)), (0, 1, 0x7F, 0x80, 0xFF)):
        packed.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
        with suppress(*DAMAGE):
            _unpack(packed, tmp_path / f"{place}-{value}")


def test_what_a_block_that_fails_has_written_is_not_kept(stored: Artifacts) -> None:
    keep(stored, KEY, "first")
    with pytest.raises(RuntimeError), stored.writing(KEY) as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert kept(stored, KEY) == "first"


def test_the_copies_do_not_fill_the_disk(
    stored: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.store.artifacts.COPIES_KEPT", 4)
    for number in range(7):
        keep(stored, KEY, str(number))
        assert kept(stored, KEY) == str(number)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def vectors(*first: float) -> np.ndarray:
    return np.array([[value, -value] for value in first], np.float32)


def test_embeddings_on_object_storage(s3: S3Server) -> None:
    store = EmbeddingStore(Storage(s3.url))
    assert store.task_ids(1, "vit.small").tolist() == []
    store.append(1, "vit.small", [3, 2], vectors(3, 2))
    store.append(1, "vit.small", [1], vectors(1))
    store.append(1, "vit.small", [2], vectors(20))
    store.append(1, "large", [2], vectors(7))
    ids, read = EmbeddingStore(Storage(s3.url)).read(1, "vit.small")
    assert (ids.tolist(), read[:, 0].tolist()) == ([1, 2, 3], [1, 20, 3])
    assert store.rows(1, "vit.small") == 4
    assert [ids.tolist() for ids, _ in store.blocks(1, "vit.small", 2)] == [[1, 2]]
    assert store.versions_of(1) == ["large", "vit.small"]
    store.delete(1, "large")
    assert store.versions_of(1) == ["vit.small"]
    store.delete_project(1)
    assert store.versions_of(1) == []


def test_many_appends_to_object_storage_are_compacted_without_a_loss(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.store.embeddings.SMALL_FRAGMENTS", 5)
    store = EmbeddingStore(Storage(f"{s3.url}/many"))
    for task_id in range(12):
        store.append(1, "small", [task_id], vectors(task_id))
    ids, read = store.read(1, "small")
    assert ids.tolist() == read[:, 0].tolist() == list(range(12))


@pytest.mark.parametrize("part", ["data", "_versions"])
def test_damaged_embeddings_on_object_storage_are_set_aside(s3: S3Server, part: str) -> None:
    store = EmbeddingStore(Storage(f"{s3.url}/{part}"))
    store.append(1, "vit.small", [7, 8], vectors(7, 8))
    bucket = boto3.resource("s3").Bucket(BUCKET)
    for found in bucket.objects.filter(Prefix=f"team-a/{part}/embeddings/project-1/vit.small.lance/{part}/"):
        found.put(Body=bytes(50))
    with pytest.raises(DamagedEmbeddings, match="computed anew"):
        store.read(1, "vit.small")
    store.set_aside(1, "vit.small")
    assert store.versions_of(1) == []
    store.append(1, "vit.small", [8], vectors(8))
    assert store.read(1, "vit.small")[0].tolist() == [8]
    aside = f"team-a/{part}/embeddings/project-1/vit.small.damaged/"
    assert len(list(bucket.objects.filter(Prefix=aside))) >= 3


def test_an_outage_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        storage = Storage(server.url)
        store, stored = EmbeddingStore(storage), artifacts_in(storage, tmp_path / "cache")
        store.append(1, "small", [1], vectors(1))
        keep(stored, KEY, "first")
    for attempt in (
        lambda: store.read(1, "small"),
        lambda: stored.reading(KEY),
        lambda: keep(stored, KEY, "second"),
        lambda: stored.names("projects"),
    ):
        with pytest.raises(StorageUnavailable, match=r"No label is lost.*STORAGE_URL"):
            attempt()


def test_a_bucket_that_is_not_there_is_told(s3: S3Server) -> None:
    nowhere = Storage("s3://nowhere/team-a")
    with pytest.raises(StorageUnavailable, match="that the bucket exists"):
        EmbeddingStore(nowhere).append(1, "small", [1], vectors(1))
