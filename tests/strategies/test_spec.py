import json
import sys
from pathlib import Path

import pytest

from strategies import (
    Entropy,
    FilterThenDiversify,
    InformationDensity,
    InvalidSpec,
    KCenterGreedy,
    Margin,
    Mixture,
    Random,
    Strategy,
    TypiClust,
    strategy,
    strategy_names,
)

# With what those need that a name alone does not make.
PARAMETERS = {
    "mixture": {"strategies": ["margin"], "shares": [1]},
    "power_acquisition": {"score": "margin"},
    "product": {"objectives": ["margin"]},
    "without_near_duplicates": {"strategy": "margin"},
}


def test_all_names() -> None:
    assert strategy_names() == sorted(set(strategy_names()))
    assert {"random", "margin", "badge", "product"} <= set(strategy_names())


@pytest.mark.parametrize("name", strategy_names())
def test_a_strategy_is_of_the_name_that_it_is_made_by(name: str) -> None:
    made = strategy({name: PARAMETERS.get(name)})
    assert isinstance(made, Strategy)
    assert made.name == name


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_a_name_alone_does_not_make(name: str) -> None:
    with pytest.raises(InvalidSpec, match=f"{name} needs the parameter"):
        strategy(name)


NESTED = {"filter_then_diversify": {"filter": "margin", "diversify": "k_center_greedy", "keep": 10}}
MIXTURE = {"mixture": {"strategies": [NESTED, "random"], "shares": [0.9, 0.1]}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (NESTED, FilterThenDiversify(Margin(), KCenterGreedy(), 10)),
        (json.dumps(NESTED), FilterThenDiversify(Margin(), KCenterGreedy(), 10)),
        (json.dumps(NESTED, indent="\t"), FilterThenDiversify(Margin(), KCenterGreedy(), 10)),
        (
            "filter_then_diversify:\n  filter: entropy\n  diversify: typiclust",
            FilterThenDiversify(Entropy(), TypiClust()),
        ),
        ({"filter_then_diversify": {"keep": 4}}, FilterThenDiversify(Margin(), KCenterGreedy(), 4)),
        (MIXTURE, Mixture((FilterThenDiversify(Margin(), KCenterGreedy(), 10), Random()), (0.9, 0.1))),
        ("information_density: {beta: 2, uncertainty: margin}", InformationDensity(Margin(), 2.0)),
        ("information_density: margin", InformationDensity(Margin())),
        ("margin:", Margin()),
        ({"margin": {}}, Margin()),
        ('"margin"', Margin()),
    ],
)
def test_specs(spec: str | dict, expected: Strategy) -> None:
    assert strategy(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("margn", r"no strategy 'margn'. Did you mean margin\? There are: .*entropy, .*vote_entropy"),
        ("Least Confidence", r"Did you mean least_confidence\?"),
        ("xyz", r"no strategy 'xyz'. There are: "),
        ("", "None is not a strategy. Write a name, such as margin"),
        ("7", "7 is not a strategy"),
        ("[margin]", "is not a strategy"),
        ("{margin: {}, entropy: {}}", "is not a strategy"),
        ({7: {}}, "no strategy 7"),
        ("{margin", "neither a name nor YAML or JSON"),
        ("{margin: 3}", "margin has no parameters; write margin alone"),
        ("{margin: {keep: 3}}", r"margin has no parameter 'keep'. It has: none"),
        (
            "{filter_then_diversify: {kep: 3}}",
            r"no parameter 'kep'. Did you mean keep\? It has: filter, diversify, keep",
        ),
        ("{filter_then_diversify: {keep: ten}}", "filter_then_diversify.keep is 'ten'; write a whole number"),
        ("{filter_then_diversify: {keep: 2.5}}", "keep is 2.5; write a whole number"),
        ("{filter_then_diversify: {keep: true}}", "keep is True; write a whole number"),
        ("{filter_then_diversify: {keep: 0}}", "filter_then_diversify: keep is 0"),
        (
            "{filter_then_diversify: {filter: marge}}",
            r"filter_then_diversify.filter: There is no strategy 'marge'",
        ),
        ("{information_density: {beta: .nan}}", "information_density: beta is nan"),
        (
            "{information_density: {uncertainty: k_center_greedy}}",
            "information_density.uncertainty: k_center_greedy does not score each image by itself",
        ),
        ("mixture", "mixture needs the parameter strategies"),
        (
            "{mixture: {strategies: margin, shares: [1]}}",
            r"mixture.strategies is 'margin'; write a list: \[a, b\]",
        ),
        (
            "{mixture: {strategies: [margin, x], shares: [1, 1]}}",
            r"mixture.strategies\[1\]: There is no strategy 'x'",
        ),
        ("{mixture: {strategies: [margin], shares: [one]}}", r"mixture.shares\[0\] is 'one'; write a number"),
        (
            "{mixture: {strategies: [margin], shares: [1, 2]}}",
            "mixture: shares has 2 numbers for 1 strategies",
        ),
        ("a: &a {b: *a}", "YAML aliases"),
        ("[" * 100_000, "nested too deeply"),
        ({"margin" * 100: {}}, r"no strategy 'marginmargin.*\.\.\."),
    ],
)
def test_a_bad_spec_says_what_is_wrong_and_what_there_is(spec: str | dict, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        strategy(spec)


MODULE = """
import numpy as np
from strategies import Ranking

class Last:
    name = "last"
    needs = frozenset()

    def __init__(self, *, skip: int = 0):
        self.skip = skip

    def rank(self, pool, size, *, batch_size, seed):
        indices = np.arange(pool.size)[::-1][self.skip:][:size]
        return Ranking(indices, np.zeros(len(indices)), ("last",) * len(indices))

def not_one():
    return 7
"""
ENTRY_POINTS = """
[label_studio_active_learning.strategies]
last = others_strategies:Last
not_one = others_strategies:not_one
gone = others_strategies:Gone
margin = others_strategies:Last
"""


@pytest.fixture
def installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that brings strategies, as pip would leave it."""
    (tmp_path / "others_strategies.py").write_text(MODULE)
    metadata = tmp_path / "others_strategies-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: others-strategies\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "others_strategies", raising=False)


@pytest.mark.usefixtures("installed_package")
def test_strategies_of_other_packages() -> None:
    assert "last" in strategy_names()
    made = strategy("{last: {skip: 1}}")
    assert made.name == "last"
    with pytest.raises(InvalidSpec, match=r"last.skip is 'x'; write a whole number"):
        strategy("{last: {skip: x}}")
    mixed = strategy("{mixture: {strategies: [last, random], shares: [1, 1]}}")
    assert isinstance(mixed, Mixture)


@pytest.mark.usefixtures("installed_package")
def test_strategies_of_other_packages_that_do_not_work() -> None:
    assert strategy("margin") == Margin()
    with pytest.raises(InvalidSpec, match="not_one made a int, which is not a strategy"):
        strategy("not_one")
    with pytest.raises(InvalidSpec, match=r"gone of others_strategies:Gone cannot be loaded: AttributeError"):
        strategy("gone")
