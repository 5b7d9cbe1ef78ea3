"""A loop as the store knows it, made up, so that pages can be tried without a server."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from pydantic import SecretStr

from backend.app import create_app
from backend.settings import Settings
from backend.store.database import Database
from backend.store.tables import Project, ProjectState, QueueEntry, Round, RoundState, Task, now

CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="kind" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""


def measured(score: float, low: float, high: float) -> dict[str, Any]:
    """What the step evaluate notes."""
    return {
        "metric": "accuracy",
        "score": score,
        "interval": [low, high],
        "total": 20,
        "classes": [],
        "details": {},
    }


class StoredLoop:
    """Project 3 with tasks 1 to 60: the first 20 are labeled, round 2 is served, and its queue holds 21 to 60."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            model_dir=folder,
            label_studio_url="http://127.0.0.1:9",  # nobody answers there
            label_studio_api_key=SecretStr("a-key"),
            **settings,
        )
        self.client: FlaskClient = create_app(self.settings).test_client()
        self.database = Database(self.settings.state_url)
        with self.database.write() as session:
            session.add(
                Project(
                    id=3,
                    title="Cats & <dogs>",
                    state=ProjectState.ACTIVE,
                    label_config=CONFIG,
                    synced_until=now(),
                    backend_url="http://127.0.0.1:9090",
                )
            )
            session.flush()
            for task_id in range(1, 61):
                target = {"kind": {"votes": {"cat": 1.0}, "annotators": 1, "multiple": False}}
                labeled = task_id <= 20
                weather = {"weather": "sunny" if task_id % 3 else "=rain"}
                session.add(
                    Task(
                        project_id=3,
                        id=task_id,
                        source=f"{task_id}.png",
                        labeled=labeled,
                        target=target if labeled else None,
                        audit=task_id % 10 == 0,
                        groups=weather,
                        embedded="small",
                    )
                )
            for number in range(3):
                self._add_round(session, number)

    def _add_round(self, session: Any, number: int) -> None:
        trained = number > 0
        of_control: dict[str, Any] = {
            "task": "classification",
            "trained": trained,
            "cold_start": None if trained else "0 of 8 labels",
            "training": 8 * number,
            "strategy": "default",
            "classes": {"cat": 16.0, "dog": 4.0},
        }
        if trained:
            of_control["measured"] = measured((0, 0.75, 0.9)[number], (0, 0.6, 0.7)[number], 0.9)
        row = Round(
            project_id=3,
            number=number,
            version=f"round-{number}-abcdef",
            reason="10 new labels",
            state=RoundState.DONE,
            step="decide",
            seconds={"fit": 1.5, "publish": 0.5},
            label_config=CONFIG,
            trained=trained,
            facts={
                "labels": 10 * number,
                "controls": {"kind": of_control},
                "embedder": "small",
                "queue": 40,
                "window": 30,
                "disagreements": [7],
                "metadata": {
                    "labeled": {"weather": {"sunny": 14, "=rain": 6}},
                    "queue": {"weather": {"sunny": 26}},
                },
            },
            started_at=now() - timedelta(minutes=10 - number),
            published_at=now() - timedelta(minutes=10 - number),
            finished_at=now() - timedelta(minutes=10 - number),
            log=f"10:00:0{number} fit took 1.50 s",
        )
        session.add(row)
        session.flush()
        if number == 2:
            session.get_one(Project, 3).published_round = row.id
            for rank, task_id in enumerate(range(21, 61)):
                prediction = {"confidence": 0.61, "labels": {"dog": 1}} if rank < 30 else None
                session.add(
                    QueueEntry(
                        round_id=row.id,
                        rank=rank,
                        task_id=task_id,
                        score=1.0 - rank / 100,
                        reason=f"reason of {task_id}",
                        published=rank < 30,
                        prediction=prediction,
                    )
                )

    def change(self, model: type[Any], key: Any, **values: Any) -> None:
        """Write columns of a row."""
        with self.database.write() as session:
            row = session.get_one(model, key)
            for name, value in values.items():
                setattr(row, name, value)

    def text(self, path: str) -> str:
        """A page that is there."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text
