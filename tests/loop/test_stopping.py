from pathlib import Path

from sqlalchemy import event

from backend.labelstudio.labeling_config import read_labeling_config
from backend.loop.stopping import by_labels, recommend_stop
from backend.settings import LoopSettings
from backend.store.tables import Project, Round, now
from strategies.stopping import Progress, StablePredictions
from tests.conftest import LABEL_CONFIG, new_deployment


def test_a_round_without_new_labels_is_no_evidence_that_predictions_have_settled() -> None:
    labeled = [Progress(10, 90), Progress(20, 80, accuracy=0.7, agreement=0.8)]
    pressed = [Progress(20, 80, accuracy=0.7, agreement=1.0)] * 3
    relabeled = Progress(20, 80, accuracy=0.75, agreement=0.95)
    assert StablePredictions().evidence([*labeled, *pressed])
    history = by_labels([*labeled, *pressed, relabeled])
    assert history == [labeled[0], Progress(20, 80, accuracy=0.75, agreement=0.8)]
    assert StablePredictions().evidence(history) is None


def test_nor_does_it_take_back_what_was_evidence() -> None:
    settled = [Progress(10 * n, 100 - 10 * n, agreement=0.995) for n in range(1, 5)]
    again = Progress(40, 60)  # as where the model before is no longer there
    assert StablePredictions().evidence(by_labels([*settled, again])) == StablePredictions().evidence(settled)


def test_of_the_rounds_before_only_their_progress_is_read(tmp_path: Path) -> None:
    """Rounds are never deleted, and what else they note may be large."""
    deployment = new_deployment(tmp_path)
    settled = [Progress(10 * n, 100 - 10 * n, agreement=0.995) for n in range(1, 5)]
    rounds = [
        Round(
            project_id=1,
            number=number,
            version=f"round-{number}",
            reason="",
            step="decide",
            label_config=LABEL_CONFIG,
            published_at=now(),
            facts={
                "labels": one.labels,
                "pool": one.pool,
                "controls": {"digit": {"agreement": one.agreement}},
                "disagreements": list(range(10_000)),
            },
        )
        for number, one in enumerate(settled)
    ]
    with deployment.database.write() as session:
        session.add(Project(id=1))
        session.flush()
        session.add_all(rounds)
    statements: list[str] = []
    engine = deployment.database.engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    controls = read_labeling_config(LABEL_CONFIG).controls
    settings = LoopSettings(stopping="stable_predictions")
    evidence = StablePredictions().evidence(settled)
    assert evidence is not None
    assert recommend_stop(deployment, rounds[-1], controls, settings) == evidence
    assert recommend_stop(deployment, rounds[1], controls, settings) is None
    selected = [" ".join(sql.split()).partition(" FROM ")[0] for sql in statements if "FROM rounds" in sql]
    assert len(selected) == 2
    assert not any("rounds.log" in columns or "rounds.facts AS" in columns for columns in selected)
