"""Several faces in an image: a detector finds them, and each is recognised by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.learners.detection import BoxAnswers, Detector, fit_detector
from backend.learners.detection.evaluation import overlaps
from backend.learners.detection.images import PreparedImage
from backend.learners.evaluation import accuracy_interval
from backend.learners.faces.answers import FaceAnswers
from backend.learners.faces.crops import face_crops
from backend.learners.faces.recogniser import FaceRecogniser, fit_face_recogniser
from backend.learners.kinds import DetectorKind
from backend.learners.learner import Embed, Evaluation, LabeledImages
from backend.targets import Box, BoxTarget, ChoiceTarget, Prediction
from strategies.pool import Pool, Units

FACE = "face"  # the detector's only class
LOOKED_AT = 0.25  # probability from which on a box is looked at as a face; from 0.5 on it is shown
OVERLAP = 0.5  # from which on a found face is a true one
EMBEDDED_AT_ONCE = 64


@dataclass(frozen=True)
class NamedFaceAnswers:
    """faces: an answer for each of `boxes`, in their order."""

    boxes: BoxAnswers
    faces: FaceAnswers

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, positions: NDArray[np.int64]) -> Self:
        """The answers about some of the images."""
        kept = np.concatenate(
            [
                np.empty(0, np.int64),
                *(np.flatnonzero(self.boxes.owners == position) for position in positions),
            ]
        )
        return type(self)(self.boxes.take(positions), self.faces.take(kept))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The answers of several batches as one."""
        return cls(
            BoxAnswers.concatenate([part.boxes for part in parts]),
            FaceAnswers.concatenate([part.faces for part in parts]),
        )

    def pool_fields(self) -> Mapping[str, Any]:
        """`committee`, the presence of each person, and `units`, the faces."""
        probabilities = self.faces.probabilities
        members, _, people = probabilities.shape
        presence = np.zeros((members, len(self), people), np.float32)
        seen = probabilities * self._found()[None, :, None]
        for owner in np.unique(self.boxes.owners):
            presence[:, owner] = seen[:, self.boxes.owners == owner].max(axis=1)
        of_faces = dict(self.faces.pool_fields())
        features = of_faces.pop("features").astype(np.float32)
        units = Pool(len(self.faces), embeddings=features, classes=self.faces.classes, **of_faces)
        return {"committee": presence, "units": Units(units, self.boxes.owners)}

    def prediction(self, position: int) -> Prediction:
        """The faces that are likelier there than not; those of nobody known have no name."""
        boxes, confidences = [], []
        for place in np.flatnonzero(self.boxes.owners == position):
            if self._found()[place] < 0.5:
                continue
            named = self.faces.prediction(int(place))
            assert isinstance(named.target, ChoiceTarget)
            left, top, right, bottom = (float(edge) for edge in self.boxes.places[place])
            boxes.append(Box(next(iter(named.target.votes), ""), left, top, right, bottom))
            confidences.append(named.confidence)
        width, height = self.boxes.sizes[position]
        confidence = float(np.mean(confidences)) if confidences else 1.0
        return Prediction(BoxTarget(tuple(boxes)), confidences, confidence, size=(int(width), int(height)))

    def _found(self) -> NDArray[np.float64]:
        """(faces,) how probable it is that there is one."""
        found: NDArray[np.float64] = self.boxes.committee[:, :, 0].mean(axis=0, dtype=np.float64)
        return found


@dataclass(frozen=True)
class _Prepared:
    seen: PreparedImage
    image: Image.Image


@dataclass(frozen=True)
class NamedFaceFinder:
    """Finds faces and names them. embed: of the embedder that the recogniser was trained with."""

    detector: Detector
    recogniser: FaceRecogniser
    embed: Embed

    @property
    def classes(self) -> tuple[str, ...]:
        """The people known."""
        return self.recogniser.classes

    @property
    def size(self) -> int:
        """Pixels of an image's shorter side: a face in it has fewer."""
        return 2 * self.detector.size

    def prepare(self, image: Image.Image) -> _Prepared:
        """The image as `answers` takes it."""
        return _Prepared(self.detector.prepare(image), image)

    def answers(self, prepared: Sequence[_Prepared]) -> NamedFaceAnswers:
        """What it says of at least one image."""
        found = self.detector.answers([one.seen for one in prepared])
        likely = found.committee[:, :, 0].mean(axis=0, dtype=np.float64) >= LOOKED_AT
        found = found.only(likely)
        crops = []
        for position, one in enumerate(prepared):
            places = found.places[found.owners == position].astype(float).tolist()
            crops += face_crops(one.image, [Box(FACE, *place) for place in places])
        return NamedFaceAnswers(found, self.recogniser.answers(_embedded(crops, self.embed)))

    def save(self, directory: Path) -> None:
        """Write it into `directory`, replacing the one there."""
        self.detector.save(directory)
        self.recogniser.save(directory)

    @classmethod
    def load(cls, directory: Path, embed: Embed) -> Self:
        """Read what `save` wrote. Raises FileNotFoundError and `weights.DamagedWeights`."""
        return cls(Detector.load(directory), FaceRecogniser.load(directory), embed)


def fit_named_face_finder(
    images: LabeledImages,
    embed: Embed,
    *,
    members: int,
    seed: int,
    detector: DetectorKind,
    backbone: str,
    on_progress: Callable[[float], None] | None,
) -> NamedFaceFinder:
    """Learn from images whose targets are boxes with the names of people. Raises ValueError where nobody is in any."""
    crops: list[Image.Image] = []
    names = []
    for position, target in enumerate(images.targets):
        crops += face_crops(images.load(position), target.boxes)
        names += [ChoiceTarget({box.label: 1.0}, 1, False) for box in target.boxes]
    recogniser = fit_face_recogniser(_embedded(crops, embed), names, members=members, seed=seed)
    faces = [
        BoxTarget(tuple(Box(FACE, b.left, b.top, b.right, b.bottom) for b in target.boxes))
        for target in images.targets
    ]
    found = fit_detector(
        LabeledImages(images.load, faces),
        (FACE,),
        members=members,
        seed=seed,
        detector=detector,
        backbone=backbone,
        on_progress=on_progress,
    )
    return NamedFaceFinder(found, recogniser, embed)


def _embedded(crops: Sequence[Image.Image], embed: Embed) -> NDArray[np.float32]:
    """(crops, dimension)."""
    if not crops:  # the dimension is the embedder's to tell
        return embed([Image.new("RGB", (8, 8))])[:0]
    parts = range(0, len(crops), EMBEDDED_AT_ONCE)
    return np.concatenate([embed(crops[start : start + EMBEDDED_AT_ONCE]) for start in parts])


def evaluate_named_faces(answers: NamedFaceAnswers, targets: Sequence[BoxTarget]) -> Evaluation:
    """Compare answers with who is where. Raises ValueError where there is no image.

    The score is rank-1 identification from the image on: the share of the true faces that are found (by a box of half
    overlap or more, each for one face) and whose likest person is right. `total` counts the true faces.
    The details hold the share of them that is found.
    """
    if len(answers) != len(targets) or not len(targets):
        raise ValueError(
            f"expected a target for each of at least 1 answers, got {len(targets)} for {len(answers)}"
        )
    actual, right = dict.fromkeys(answers.faces.classes, 0), dict.fromkeys(answers.faces.classes, 0)
    faces = found = 0
    for position, target in enumerate(targets):
        own = np.flatnonzero(answers.boxes.owners == position)
        places = answers.boxes.places[own].astype(np.float64)
        free = np.ones(len(own), bool)
        for box in target.boxes:
            faces += 1
            actual[box.label] = actual.get(box.label, 0) + 1
            common = overlaps(np.array([[box.left, box.top, box.right, box.bottom]]), places)[0] * free
            if not len(own) or common.max() < OVERLAP:
                continue
            best = int(common.argmax())
            free[best] = False
            found += 1
            likest = answers.faces.classes[int(answers.faces.similarities[own[best]].argmax())]
            if likest == box.label:
                right[box.label] += 1
    correct = sum(right.values())
    return Evaluation(
        metric="rank-1 identification",
        score=correct / faces if faces else 0.0,
        interval=accuracy_interval(correct, faces),
        total=faces,
        classes=tuple(
            {
                "name": name,
                "actual": actual[name],
                "score": right[name] / actual[name] if actual[name] else None,
            }
            for name in answers.faces.classes
        ),
        details={"faces found": found / faces if faces else None},
    )
