"""What a round computes on its way; what an earlier worker left behind is read back when needed."""

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import update

from backend.deployment import Deployment
from backend.labelstudio.control import Control
from backend.labelstudio.labeling_config import LabelingConfig, read_labeling_config
from backend.learners.learner import Answers, Learner
from backend.learners.tasks import looks_at_pixels
from backend.loop import learning, publishing, selection
from backend.loop.answering import answers_about
from backend.loop.pool import FROM_A_LEARNER
from backend.loop.rounds import LEARNER_OF, note_facts, round_of_version
from backend.settings import LoopSettings
from backend.store.leases import HeldLease
from backend.store.tables import Project, Round
from strategies import strategy

PROGRESS_SECONDS = 2.0


class RoundRun:
    """One worker's run through a round."""

    def __init__(self, deployment: Deployment, round_id: int, held: HeldLease) -> None:
        self.deployment, self.round_id, self.held = deployment, round_id, held
        self.project_id = self.current.project_id
        self._told = time.monotonic()  # when progress was last written

    @property
    def current(self) -> Round:
        """The round's row."""
        with self.deployment.database.read() as session:
            return session.get_one(Round, self.round_id)

    @cached_property
    def learners_taken_from(self) -> Round | None:
        """The round whose learners this one has; None where it trains its own."""
        version = self.current.facts.get(LEARNER_OF)
        return None if version is None else round_of_version(self.deployment, self.project_id, version)

    @cached_property
    def project(self) -> Project:
        """The project's row, as of the sync."""
        with self.deployment.database.read() as session:
            return session.get_one(Project, self.project_id)

    @cached_property
    def config(self) -> LabelingConfig:
        """What the annotators are asked."""
        return read_labeling_config(self.project.label_config)

    @cached_property
    def settings(self) -> LoopSettings:
        """The project's settings."""
        return LoopSettings.resolve(self.config.settings, self.project.extra_params)

    @cached_property
    def pool(self) -> selection.UnlabeledPool:
        """The unlabeled tasks."""
        embedder = self.current.facts.get("embedder")
        return selection.unlabeled_pool(self.deployment, self.project_id, embedder)

    @cached_property
    def controls(self) -> "tuple[ControlRun, ...]":
        """Each control that the loop learns."""
        return tuple(ControlRun(self, control) for control in self.config.controls)

    @cached_property
    def ranking(self) -> list[selection.Ranked]:
        """The candidates, best first; none where there is no candidate."""
        rankings = {}
        for one in self.controls:
            task_ids, answers = one.pool
            if len(task_ids):
                rankings[one.control.name] = selection.rank_candidates(
                    self.deployment,
                    self.current,
                    one.control,
                    task_ids,
                    one.labeled,
                    one.learner,
                    answers,
                    one.settings,
                    self.queue_size,
                )
        return selection.merge(rankings, self.queue_size)

    @property
    def window(self) -> int:
        """How many tasks to publish."""
        return publishing.window_size(self.settings, self.current.facts.get("new_labels", 0))

    @property
    def queue_size(self) -> int:
        """How many tasks the queue holds, the reserve included."""
        return selection.QUEUE_WINDOWS * self.window

    def note(self, **values: Any) -> None:
        """Write columns of the round's row."""
        with self.deployment.database.write() as session:
            session.execute(update(Round).where(Round.id == self.round_id).values(**values))

    def note_facts(self, **facts: Any) -> None:
        """Add to what is known about the round."""
        note_facts(self.deployment, self.round_id, **facts)

    def note_progress(self, share: float) -> None:
        """Tell how much of a long step is done; written now and then only."""
        if time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            self.note_facts(progress=round(share, 3))

    def note_of_controls(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Add to what is known about each control, by its name."""
        known = self.current.facts.get("controls", {})
        names = [control.name for control in self.config.controls]
        self.note_facts(controls={name: {**known.get(name, {}), **facts.get(name, {})} for name in names})


class ControlRun:
    """One control of the labeling config in a round: its labeled set, its learner, and what that says of the pool."""

    def __init__(self, run: RoundRun, control: Control) -> None:
        self.run, self.control = run, control
        self.settings = LoopSettings.resolve(control.settings, run.project.extra_params)

    @cached_property
    def labeled(self) -> tuple[learning.LabeledSet, learning.LabeledSet]:
        """Training set and validation set."""
        run = self.run
        return learning.labeled_sets(run.deployment, run.project_id, run.current.facts, self.control)

    @cached_property
    def learner(self) -> Learner | None:
        """The learner; None in cold start. To be asked for after the step fit."""
        current = self.run.current
        if not learning.was_trained(current, self.control):
            return None
        return learning.learner_of(self.run.deployment, current, self.control)

    @cached_property
    def pool(self) -> tuple[NDArray[np.int64], Answers | None]:
        """The candidates that are ranked, and the learner's answers about them; None where nobody asks for those.

        A learner that looks at the images themselves cannot look at all of a large pool in a round; it is shown a
        random sample.
        """
        run, candidates = self.run, self.run.pool.candidates
        if self.learner is None or not strategy(self.settings.strategy).needs & FROM_A_LEARNER:
            return candidates, None
        if looks_at_pixels(self.control):
            candidates = candidates[: self.settings.images_looked_at]
        return answers_about(run.deployment, run.current, self.control, self.learner, candidates)
