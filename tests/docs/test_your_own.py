"""The strategy and the learner that docs/your-own.md shows, run as they stand there."""

import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from backend.learners import committee, kinds
from backend.learners.committee import Committee
from strategies import InvalidSpec, MissingNeed, Pool, Strategy, strategy, strategy_names

PAGE = (Path(__file__).parents[2] / "docs" / "your-own.md").read_text()


def block(language: str, containing: str) -> str:
    """The code block of the page in a language that contains some words."""
    (found,) = (b for b in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if containing in b)
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of the page, as pip would leave it."""
    project = tomllib.loads(block("toml", "rare-finds"))
    (name,) = project["tool"]["setuptools"]["py-modules"]
    (tmp_path / f"{name}.py").write_text(block("python", "class Wanted"))
    about, metadata = project["project"], tmp_path / f"{name}-1.0.dist-info"
    metadata.mkdir()
    head = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    (metadata / "METADATA").write_text(head)
    groups = (
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in about["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("installed")
def test_the_strategy_is_found_and_ranks() -> None:
    assert "wanted" in strategy_names()
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    pool = Pool(size=3, committee=probabilities[None], classes=("fine", "defect"))
    ranking = strategy("wanted: defect").rank(pool, 3, batch_size=1, seed=0)
    assert ranking.indices.tolist() == [1, 2, 0]
    assert ranking.reasons[0] == "80% likely to show defect"
    with pytest.raises(MissingNeed, match="wanted is 'scratch', but the classes are fine, defect"):
        strategy("wanted: scratch").rank(pool, 3, batch_size=1, seed=0)
    with pytest.raises(InvalidSpec, match="wanted needs the parameter wanted"):
        strategy("wanted")


@pytest.mark.usefixtures("installed")
def test_the_strategy_stands_inside_others() -> None:
    assert isinstance(strategy(block("yaml", "wanted: defect")), Strategy)


def test_the_learner_learns_and_survives_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "class_means.py").write_text(block("python", "class ClassMeans"))
    monkeypatch.syspath_prepend(tmp_path)
    kind = importlib.import_module("class_means").ClassMeans
    images, digits = load_digits(return_X_y=True)
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    classes, targets = tuple("0123456789"), np.eye(10)[digits]
    learner: Committee = kind.fit(images[:200], targets[:200], classes, multi_label=False, members=4, seed=0)
    given = learner.probabilities(images[200:])
    assert given.shape == (4, 1597, 10)
    assert np.allclose(given.sum(axis=2), 1, atol=1e-5)
    assert (given.mean(axis=0).argmax(axis=1) == digits[200:]).mean() > 0.7
    assert not np.allclose(given[0], given[1])  # members differ
    assert learner.answers(images[:3]).prediction(0).confidence > 0.1
    learner.save(tmp_path)
    assert np.array_equal(kind.load(tmp_path).probabilities(images[:5]), learner.probabilities(images[:5]))
    with pytest.raises(ValueError, match="one class an image"):
        kind.fit(images[:20], targets[:20], classes, multi_label=True, members=4, seed=0)


def test_the_learner_is_named_where_the_page_says() -> None:
    source = Path(kinds.__file__).read_text()
    edited, _ = block("python", "# in fit_committee").split("\n", 1)
    assert edited.replace(', "means"', "") in source
    assert inspect.signature(committee.fit_committee).parameters.keys() >= {"learner", "members", "seed"}
    assert inspect.getsource(committee.load_committee).rstrip().count("\n    return ") == 1
