"""Which features separate people who are hard to tell apart: dimensions of the embedding, and parts of the face."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.learners.faces.evaluation import likeliest_people
from backend.learners.faces.occlusion import mean_face, occlusion_map
from backend.learners.faces.recogniser import FaceRecogniser
from backend.learners.learner import Embed, LabeledImages

PAIRS = 3
FACES = 10  # of a person, at most, that parts are covered of
STRONGEST = 10  # dimensions of a pair that are told of


@dataclass(frozen=True)
class ConfusablePair:
    """Two people who are hard to tell apart.

    margin: by how much a face of either is more similar to its own person than to the other, on average.
    fisher_ratios: (dimensions,) squared distance of their means over the sum of their variances (Fisher, 1936), less
        what chance makes of so few faces. The variance is taken to be the same for all people.
    sufficient: how many dimensions, those of the highest ratios, tell the two apart as well as all; None where either
        has a single face. `accuracy` is how well that is: the share of their faces that are told right by the others.
    """

    people: tuple[str, str]
    margin: float
    fisher_ratios: NDArray[np.float64]
    sufficient: int | None
    accuracy: float | None

    @property
    def strongest(self) -> NDArray[np.int64]:
        """The dimensions with the highest ratios, at most `STRONGEST`."""
        return np.argsort(-self.fisher_ratios, kind="stable")[:STRONGEST]

    def to_json(self) -> dict[str, Any]:
        return {
            "people": list(self.people),
            "margin": self.margin,
            "strongest": [
                {"dimension": int(d), "fisher_ratio": float(self.fisher_ratios[d])} for d in self.strongest
            ],
            "sufficient": self.sufficient,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True)
class PersonMap:
    """name: whose. importance: (GRID, GRID), by how much the lead of the right person over the likest other falls where
    a part of the face is covered; below 0 where it rises. face: (height, width, 3) mean of the faces, 0 to 1."""

    name: str
    importance: NDArray[np.float64]
    face: NDArray[np.float32]


@dataclass(frozen=True)
class FeatureReport:
    """pairs: the most confusable first. maps: of each person in a pair. dimensions: of the embedding."""

    pairs: tuple[ConfusablePair, ...]
    maps: tuple[PersonMap, ...]
    dimensions: int

    def map_of(self, name: str) -> PersonMap:
        """Raises KeyError for somebody who is in no pair."""
        return {found.name: found for found in self.maps}[name]

    def to_json(self) -> dict[str, Any]:
        """Numbers, strings and None only; without the mean faces, which are pictures of people."""
        return {
            "dimensions": self.dimensions,
            "pairs": [pair.to_json() for pair in self.pairs],
            "regions": {found.name: found.importance.tolist() for found in self.maps},
        }


def feature_report(
    recogniser: FaceRecogniser, embeddings: NDArray[np.float32], faces: LabeledImages, embed: Embed
) -> FeatureReport:
    """What separates the `PAIRS` most confusable pairs of people.

    embeddings: (faces, dimensions) of the labeled faces; best such as the recogniser was not trained on. embed: of
    images, what the embeddings were made by. Faces of people whom the recogniser does not know, and those on which
    annotators are divided, are left out.

    Raises ValueError where these are not of two people or more, one of them with two faces or more.
    """
    people = [likeliest_people(target) for target in faces.targets]
    kept = [i for i, names in enumerate(people) if len(names) == 1 and names <= set(recogniser.classes)]
    names = np.array([next(iter(people[i])) for i in kept], dtype=np.str_)
    known, person = np.unique(names, return_inverse=True)
    if not 1 < len(known) < len(kept):
        raise ValueError(
            "a report of features needs labeled faces of two known people or more, and two faces of one of them"
        )
    rows = np.asarray(embeddings, dtype=np.float64)[kept]
    column = np.array([recogniser.classes.index(name) for name in known])
    similarities = recogniser.answers(embeddings[kept]).similarities[:, column]
    within = _variance_within(rows, person)
    pairs = tuple(
        _pair((str(known[a]), str(known[b])), margin, rows[person == a], rows[person == b], within)
        for a, b, margin in _most_confusable(similarities, person)
    )
    maps = []
    for name in sorted({name for pair in pairs for name in pair.people}):
        images = [faces.load(kept[i]) for i in np.flatnonzero(names == name)[:FACES]]
        maps.append(PersonMap(name, occlusion_map(recogniser, name, images, embed), mean_face(images)))
    return FeatureReport(pairs, tuple(maps), rows.shape[1])


def _most_confusable(
    similarities: NDArray[np.float32], person: NDArray[np.int64]
) -> list[tuple[int, int, float]]:
    """The pairs of people with the least margin between them, and the margin. similarities: (faces, people)."""
    own = similarities[np.arange(len(person)), person]
    leads = own[:, None] - similarities.astype(np.float64)
    faces = np.bincount(person).astype(np.float64)
    sums = np.zeros((len(faces), len(faces)))
    np.add.at(sums, person, leads)
    margins = (sums + sums.T) / (faces[:, None] + faces)
    first, second = np.triu_indices(len(faces), 1)
    order = np.argsort(margins[first, second], kind="stable")[:PAIRS]
    return [(int(first[o]), int(second[o]), float(margins[first[o], second[o]])) for o in order]


def _variance_within(rows: NDArray[np.float64], person: NDArray[np.int64]) -> NDArray[np.float64]:
    """(dimensions,) variance of a person's faces, the same for all."""
    counts = np.bincount(person)
    means = np.zeros((len(counts), rows.shape[1]))
    np.add.at(means, person, rows)
    apart = rows - (means / counts[:, None])[person]
    variance: NDArray[np.float64] = (apart**2).sum(axis=0) / (len(rows) - len(counts))
    return np.maximum(variance, 1e-6 * max(float(rows.var(axis=0).max()), 1e-12))


def _pair(
    people: tuple[str, str],
    margin: float,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    within: NDArray[np.float64],
) -> ConfusablePair:
    ratios = _fisher_ratios(first, second, within)
    if min(len(first), len(second)) < 2:
        return ConfusablePair(people, margin, ratios, None, None)
    counts = [2**i for i in range(len(within).bit_length()) if 2**i < len(within)] + [len(within)]
    right = np.concatenate(
        [_told_right(first, second, within, counts), _told_right(second, first, within, counts)]
    )
    accuracies = right.mean(axis=0)
    enough = int(np.argmax(accuracies >= accuracies[-1]))
    return ConfusablePair(people, margin, ratios, counts[enough], float(accuracies[-1]))


def _fisher_ratios(
    first: NDArray[np.float64], second: NDArray[np.float64], within: NDArray[np.float64]
) -> NDArray[np.float64]:
    chance = (1 / len(first) + 1 / len(second)) / 2
    ratios: NDArray[np.float64] = (first.mean(axis=0) - second.mean(axis=0)) ** 2 / (2 * within) - chance
    return np.maximum(ratios, 0)


def _told_right(
    own: NDArray[np.float64], other: NDArray[np.float64], within: NDArray[np.float64], counts: Sequence[int]
) -> NDArray[np.bool_]:
    """(faces of one's own, counts) whether each face, left out, is nearer its own mean along so many dimensions."""
    right = np.empty((len(own), len(counts)), dtype=np.bool_)
    for place, face in enumerate(own):
        rest = np.delete(own, place, axis=0)
        apart = (rest.mean(axis=0) - other.mean(axis=0)) / within
        for_own = apart * (face - (rest.mean(axis=0) + other.mean(axis=0)) / 2)
        order = np.argsort(-_fisher_ratios(rest, other, within), kind="stable")
        right[place] = for_own[order].cumsum()[np.array(counts) - 1] > 0
    return right
