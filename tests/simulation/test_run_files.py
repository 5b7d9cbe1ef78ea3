"""What is kept of a simulation, and what is refused."""

import json
from pathlib import Path

import pytest

from backend.simulation.replay import Round
from backend.simulation.run_files import (
    ChangedSimulation,
    append_round,
    check_same,
    claimed,
    read_rounds,
    run_path,
)


def a_round(number: int) -> Round:
    return Round(
        number=number,
        picks=[3, 1],
        labels=2 * number,
        audit_labels=0,
        pool=9,
        score=0.5,
        log_loss=0.7,
        class_scores={"a": 0.5, "b": None},
        accuracy=0.4,
        interval=(0.1, 0.8),
        agreement=None,
        uncertainty=0.3,
        select_seconds=0.1,
        fit_seconds=0.2,
    )


def test_rounds_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = run_path(tmp_path, "margin", 0)
    assert read_rounds(path) == []
    for number in (1, 2):
        append_round(path, a_round(number))
    assert read_rounds(path) == [a_round(1), a_round(2)]


@pytest.mark.parametrize("characters", [1, 20, 200])
def test_a_line_torn_by_a_kill_is_cut_off_and_written_anew(tmp_path: Path, characters: int) -> None:
    path = run_path(tmp_path, "margin", 0)
    append_round(path, a_round(1))
    whole = path.read_text()
    path.write_text(whole + whole[:characters])
    assert read_rounds(path) == [a_round(1)]
    append_round(path, a_round(2))
    assert read_rounds(path) == [a_round(1), a_round(2)]


def test_each_run_has_a_file_of_its_own() -> None:
    specs = ["margin", "{margin: }", "{typiclust: {neighbours: 5}}", "{typiclust: {neighbours: 6}}", "a/../b"]
    paths = {run_path(Path("out"), spec, seed) for spec in specs for seed in (0, 1)}
    assert len(paths) == 10
    assert {path.parent for path in paths} == {Path("out/runs")}


def test_a_changed_command_is_refused_with_the_remedy(tmp_path: Path) -> None:
    check_same(tmp_path, {"batch": 20, "limit": None})
    check_same(tmp_path, {"batch": 20, "limit": None})
    with pytest.raises(ChangedSimulation) as refused:
        check_same(tmp_path, {"batch": 10, "limit": 5})
    assert str(refused.value) == (
        f"{tmp_path} holds a simulation that was made otherwise: batch was 20, and is now 10; limit was not set, "
        "and is now 5. Choose another --out for the new one, repeat the old command to go on with the old one, "
        "or delete the folder."
    )
    assert json.loads((tmp_path / "simulation.json").read_text()) == {"batch": 20, "limit": None}


def test_two_simulations_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "out"),
        pytest.raises(ChangedSimulation, match="is running in"),
        claimed(tmp_path / "out"),
    ):
        pass
    with claimed(tmp_path / "out"):
        pass
