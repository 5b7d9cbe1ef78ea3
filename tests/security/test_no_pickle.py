"""Nothing is unpickled: whoever can write where we read must not be able to run programs."""

import ast
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest
from huey.registry import Message

from backend.loop.messages import JsonMessages

ROOT = Path(__file__).parents[2]
UNPICKLING = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "torch.load", "allow_pickle=True"}


def test_no_source_of_ours_unpickles() -> None:
    for folder in ("backend", "strategies"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                assert not UNPICKLING & named_in(node), f"{path}:{getattr(node, 'lineno', 0)}"


def named_in(node: ast.AST) -> set[str]:
    """What an import brings, or what a call calls and is told."""
    match node:
        case ast.Import():
            return {alias.name.partition(".")[0] for alias in node.names}
        case ast.ImportFrom():
            return {(node.module or "").partition(".")[0]}
        case ast.Call():
            return {ast.unparse(node.func), *(f"{one.arg}={ast.unparse(one.value)}" for one in node.keywords)}
    return set()


class Trap:
    """Whoever unpickles it touches a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def test_a_pickle_in_the_queue_of_jobs_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "run"
    trap = pickle.dumps(Trap(marker))
    with pytest.raises(ValueError, match=r"."):
        JsonMessages().deserialize(trap)
    assert not marker.exists()
    pickle.loads(trap)
    assert marker.exists()  # it would have been


@pytest.mark.parametrize("eta", [None, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)])
def test_a_job_is_read_as_it_was_written(eta: datetime | None) -> None:
    blank = dict.fromkeys(Message._fields)
    sent = Message(
        **blank | {"id": "a", "name": "advance", "eta": eta, "args": (3,), "kwargs": {}, "retries": 0}
    )
    assert JsonMessages().deserialize(JsonMessages().serialize(sent)) == sent


@pytest.mark.parametrize("message", [b"", b"[]", b"{}", b'{"id": 1}', b"\xff"])
def test_what_is_no_job_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        JsonMessages().deserialize(message)
