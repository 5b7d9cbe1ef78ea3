"""One entrance to the learners of all tasks: what is asked decides who learns it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.learners import classification
from backend.learners.class_answers import ClassAnswers
from backend.learners.committee import fit_committee, load_committee
from backend.learners.evaluation import evaluate
from backend.learners.kinds import CommitteeKind, DetectorKind
from backend.learners.learner import Answers, Embed, Evaluation, LabeledImages, Learner
from backend.targets import BoxTarget, ChoiceTarget, MaskTarget, Target, VisionTask, votes_of

# What the learners of a task are measured by, as `evaluate_answers` says it.
METRICS: Mapping[VisionTask, str] = {
    "classification": "accuracy",
    "detection": "mean average precision at 0.5 overlap",
    "segmentation": "mean intersection over union",
    "face": "rank-1 identification",
}


class Question(Protocol):
    """What annotators are asked about an image."""

    @property
    def task(self) -> VisionTask: ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The answers offered; for faces those known beforehand, possibly none."""

    @property
    def multiple(self) -> bool:
        """Whether an image may have several classes, or none."""

    @property
    def in_boxes(self) -> bool:
        """Whether it is asked for boxes in the image rather than for the image; of faces only."""


class LearnerSettings(Protocol):
    """The settings that say how to learn; see `LoopSettings`."""

    @property
    def learner(self) -> CommitteeKind: ...

    @property
    def members(self) -> int: ...

    @property
    def detector(self) -> DetectorKind: ...

    @property
    def backbone(self) -> str: ...


@dataclass(frozen=True)
class Examples:
    """Labeled images.

    embeddings: (n, d) the learner's own. load: the image at a position, RGB and upright. targets: one for each.
    embed: embeds other images in the same way.
    """

    embeddings: NDArray[np.float32]
    load: Callable[[int], Image.Image]
    targets: Sequence[Target]
    embed: Embed

    def __len__(self) -> int:
        return len(self.targets)


def looks_at_pixels(question: Question) -> bool:
    """Whether the learner looks at the images themselves; else it is given stored embeddings."""
    return question.task in ("detection", "segmentation") or question.in_boxes


def has_several_classes(question: Question) -> bool:
    """Whether an image may have several of the classes at once."""
    return question.multiple or looks_at_pixels(question)


def read_stored_target(question: Question, data: Mapping[str, Any]) -> Target:
    """The target that was stored with `to_json`."""
    match question.task:
        case "detection":
            return BoxTarget.from_json(data)
        case "segmentation":
            return MaskTarget.from_json(data)
        case "face" if question.in_boxes:
            return BoxTarget.from_json(data)
        case _:
            return ChoiceTarget.from_json(data)


def class_shares(targets: Sequence[Target], classes: tuple[str, ...]) -> NDArray[np.float32]:
    """(n, classes): the share of the votes for each class, or whether the image has an object or region of it.

    Votes for other classes are left out; of single choice, the rest is scaled to sum to 1 where there is any.
    """
    places = {name: place for place, name in enumerate(classes)}
    shares = np.zeros((len(targets), len(classes)), np.float32)
    for row, target in zip(shares, targets, strict=True):
        for name, share in votes_of(target).items():
            if name in places:
                row[places[name]] = share
        if isinstance(target, ChoiceTarget) and not target.multiple and row.any():
            row /= row.sum()
    return shares


def is_usable(question: Question, target: Target) -> bool:
    """Whether a target still says something: not where all votes were for classes that are gone."""
    if not isinstance(target, ChoiceTarget) or target.multiple or question.task == "face":
        return True
    return any(target.votes.get(name, 0) > 0 for name in question.classes)


def why_untrainable(question: Question, targets: Sequence[Target], minimum_labels: int) -> str | None:
    """A sentence that says what is missing before a learner can be trained; None: nothing is."""
    if looks_at_pixels(question):
        if len(targets) < minimum_labels:
            return f"{len(targets)} of {minimum_labels} labels that the first model needs (audit tasks not counted)"
        if not class_shares(targets, known_classes(question, targets)).any():
            return "nothing is marked in any image so far; a model needs something to find"
        return None
    classes = known_classes(question, targets)
    return classification.why_untrainable(
        class_shares(targets, classes), minimum_labels, multi_label=question.multiple
    )


def known_classes(question: Question, targets: Sequence[Target]) -> tuple[str, ...]:
    """The classes that a learner of these targets knows: the question's; of faces, the people seen."""
    if question.task != "face":
        return question.classes
    return tuple(sorted({name for target in targets for name in votes_of(target)}))


def fit_learner(
    question: Question,
    examples: Examples,
    settings: LearnerSettings,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> Learner:
    """Train. on_progress: is told the share that is done, now and then. Raises ValueError for what cannot be fit."""
    match question.task:
        case "classification":
            return fit_committee(
                settings.learner,
                examples.embeddings,
                class_shares(examples.targets, question.classes),
                question.classes,
                multi_label=question.multiple,
                members=settings.members,
                seed=seed,
            )
        case "detection":
            from backend.learners.detection import fit_detector

            return fit_detector(
                LabeledImages(examples.load, examples.targets),
                question.classes,
                members=settings.members,
                seed=seed,
                detector=settings.detector,
                backbone=settings.backbone,
                on_progress=on_progress,
            )
        case "segmentation":
            from backend.learners.segmentation import fit_segmenter

            return fit_segmenter(
                LabeledImages(examples.load, examples.targets),
                question.classes,
                members=settings.members,
                seed=seed,
                backbone=settings.backbone,
                on_progress=on_progress,
            )
        case "face" if question.in_boxes:
            from backend.learners.faces.in_boxes import fit_named_face_finder

            return fit_named_face_finder(
                LabeledImages(examples.load, examples.targets),
                examples.embed,
                members=settings.members,
                seed=seed,
                detector=settings.detector,
                backbone=settings.backbone,
                on_progress=on_progress,
            )
        case "face":
            from backend.learners.faces import fit_face_recogniser

            targets = cast("Sequence[ChoiceTarget]", examples.targets)
            return fit_face_recogniser(examples.embeddings, targets, members=settings.members, seed=seed)


def load_learner(question: Question, directory: Path, embed: Embed) -> Learner:
    """Read what a learner's `save` wrote. embed: as in `Examples`.

    Raises FileNotFoundError and `weights.DamagedWeights`.
    """
    match question.task:
        case "classification":
            return load_committee(directory)
        case "detection":
            from backend.learners.detection import Detector

            return Detector.load(directory)
        case "segmentation":
            from backend.learners.segmentation import Segmenter

            return Segmenter.load(directory)
        case "face" if question.in_boxes:
            from backend.learners.faces.in_boxes import NamedFaceFinder

            return NamedFaceFinder.load(directory, embed)
        case "face":
            from backend.learners.faces import FaceRecogniser

            return FaceRecogniser.load(directory)


def evaluate_answers(question: Question, answers: Answers, targets: Sequence[Target]) -> Evaluation:
    """How good the answers are. Raises ValueError where there are none."""
    match question.task:
        case "classification":
            given = cast("ClassAnswers", answers)
            shares = class_shares(targets, given.classes)
            return evaluate(given.probabilities.mean(axis=0), shares, given.classes, given.multi_label)
        case "detection":
            from backend.learners.detection import BoxAnswers, evaluate_boxes

            boxes = cast("Sequence[BoxTarget]", targets)
            return evaluate_boxes(cast(BoxAnswers, answers), boxes, question.classes)
        case "segmentation":
            from backend.learners.segmentation import MaskAnswers, evaluate_masks

            masks = cast("Sequence[MaskTarget]", targets)
            return evaluate_masks(cast(MaskAnswers, answers), masks, question.classes)
        case "face" if question.in_boxes:
            from backend.learners.faces.in_boxes import NamedFaceAnswers, evaluate_named_faces

            boxes = cast("Sequence[BoxTarget]", targets)
            return evaluate_named_faces(cast(NamedFaceAnswers, answers), boxes)
        case "face":
            from backend.learners.faces import FaceAnswers, evaluate_faces

            names = cast("Sequence[ChoiceTarget]", targets)
            return evaluate_faces(cast(FaceAnswers, answers), names)
