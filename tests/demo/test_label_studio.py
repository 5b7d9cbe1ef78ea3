"""The launcher, with the real Label Studio."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from backend.demo.label_studio import LabelStudioServer, LabelStudioStartError
from backend.labelstudio.client import LabelStudio


def test_it_resumes_after_a_crash_and_ends_with_all_its_processes(
    start_label_studio: Callable[..., LabelStudioServer], tmp_path: Path
) -> None:
    server = start_label_studio(local_files=tmp_path)
    assert httpx.get(f"{server.url}/health").json() == {"status": "UP"}
    credentials = server.directory / "credentials.json"
    assert credentials.stat().st_mode & 0o777 == 0o600
    assert server.api_key not in repr(server)
    assert server.password not in repr(server)

    client = LabelStudio(server.url, server.api_key)
    password = "a-password-of-its-own"
    colleague = LabelStudio(server.url, server.add_user("colleague@example.com", password))
    assert colleague.projects() == client.projects() == []
    with pytest.raises(LabelStudioStartError, match="taken"):
        server.add_user("colleague@example.com", password)

    server.kill()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")
    key = server.api_key
    with LabelStudioServer(server.directory, server.port) as resumed:
        assert (resumed.api_key, resumed.url) == (key, server.url)
        assert client.projects() == colleague.projects() == []
        assert resumed._process is not None
        group = resumed._process.pid
        assert os.getpgid(group) == group != os.getpgid(0)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    resumed.stop()  # a second time does nothing


def test_an_occupied_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LabelStudioStartError, match=f"Port {port} is already in use"):
            LabelStudioServer(tmp_path / "data", port).start()
    assert not (tmp_path / "data").exists()


def test_a_missing_executable_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(LabelStudioStartError, match="pip install label-studio"):
        LabelStudioServer(tmp_path / "data").start()


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "label_studio.sqlite3").write_bytes(b"this is not a database " * 50)
    with pytest.raises(LabelStudioStartError, match="file is not a database"):
        LabelStudioServer(directory).start()
