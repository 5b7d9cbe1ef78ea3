"""Files that cannot be read any more: a round makes them anew, and until then whoever asks does without."""

from sqlalchemy import select

from backend.deployment import Deployment
from backend.learners.embedding import BackboneUnavailable
from backend.learners.weights import DamagedWeights
from backend.loop.events import DAMAGED
from backend.loop.rounds import latest_round
from backend.store.embeddings import DamagedEmbeddings
from backend.store.tables import Event, Project, RoundState

# What reading a learner, an embedder or embeddings raises; without its file, an embedder cannot be had.
DAMAGE = (DamagedWeights, DamagedEmbeddings, FileNotFoundError, BackboneUnavailable)


def note_damage(deployment: Deployment, project_id: int) -> bool:
    """Have a round make the model anew; whether it is news, for one that does may be due or under way already."""
    latest = latest_round(deployment, project_id)
    if latest is None or latest.state != RoundState.DONE:
        return False
    with deployment.database.write() as session:
        covered = select(Project.synced_event).where(Project.id == project_id).scalar_subquery()
        noted = select(Event.id).where(
            Event.project_id == project_id, Event.action == DAMAGED, Event.id > covered
        )
        if session.scalar(noted.limit(1)) is not None:
            return False
        session.add(Event(project_id=project_id, action=DAMAGED, task_ids=[]))
    return True
