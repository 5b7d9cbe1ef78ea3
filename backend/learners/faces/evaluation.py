"""How good a face recogniser is: identification in an open set, and verification (Klare et al., CVPR 2015: IJB-A)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.learners.evaluation import accuracy_interval
from backend.learners.faces.answers import FaceAnswers
from backend.learners.learner import Evaluation
from backend.targets import ChoiceTarget

FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3)
VERIFIED_FACES = 2000  # whose pairs are looked at: two million


def evaluate_faces(answers: FaceAnswers, targets: Sequence[ChoiceTarget]) -> Evaluation:
    """Compare answers with who is on the faces, by majority; on a tie, each of the likeliest is right.

    The score is rank-1 identification: the share of the faces of which the likest person known is the right one. The
    faces of people not known yet count as wrong: else a recogniser that knows few people would be the best.

    The details, each None where there is nothing to measure it on:
        "rank-1 among people known": the same, of the faces of people known to the recogniser alone.
        "known recognised": of the faces of people known, the share whose likest is right and above the threshold.
        "unknown recognised": of the faces of unknown people, the share that is taken for nobody known.
        "TAR at FAR 0.1" and so on: when pairs of different people are accepted as the same at no more than this rate,
            the share of the pairs of the same person that are. Pairs of all faces, compared in the metric space; at
            least one pair of different people must be allowed in.

    Raises ValueError where there is no face, or as many targets as answers there are not.
    """
    if len(answers) != len(targets) or not len(targets):
        raise ValueError(
            f"expected a target for each of at least 1 answers, got {len(targets)} for {len(answers)}"
        )
    place = {name: index for index, name in enumerate(answers.classes)}
    people = [likeliest_people(target) for target in targets]
    is_known = np.array([any(name in place for name in names) for names in people])
    likest = answers.similarities.argmax(axis=1)
    is_right = np.array([answers.classes[p] in names for p, names in zip(likest, people, strict=True)])
    is_accepted = answers.similarities.max(axis=1) >= answers.threshold
    total, correct = len(targets), int(is_right.sum())
    names = np.array([min(names & place.keys() or names) for names in people])
    return Evaluation(
        metric="rank-1 identification",
        score=correct / total,
        interval=accuracy_interval(correct, total),
        total=total,
        classes=tuple(
            _of_person(name, names == name, likest == index, is_right) for name, index in place.items()
        ),
        details={
            "rank-1 among people known": _share(is_right[is_known]),
            "known recognised": _share((is_right & is_accepted)[is_known]),
            "unknown recognised": _share(~is_accepted[~is_known]),
            **_verification(answers.features, names),
        },
    )


def likeliest_people(target: ChoiceTarget) -> frozenset[str]:
    """Those with most votes: one, or several on a tie."""
    most = max(target.votes.values())
    return frozenset(name for name, vote in target.votes.items() if np.isclose(vote, most))


def _of_person(
    name: str, actual: NDArray[np.bool_], predicted: NDArray[np.bool_], is_right: NDArray[np.bool_]
) -> dict[str, Any]:
    """One person's faces: how many there are, how many are likest this person, and how many of these rightly."""
    correct = int((predicted & is_right).sum())
    return {
        "name": name,
        "actual": int(actual.sum()),
        "predicted": int(predicted.sum()),
        "correct": correct,
        "score": _share(is_right[actual]),
        "precision": correct / int(predicted.sum()) if predicted.any() else None,
    }


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _verification(features: NDArray[np.float16], names: NDArray[np.str_]) -> dict[str, float | None]:
    """True-accept rates at `FALSE_ACCEPT_RATES`; faces spread evenly over a longer list stand for it."""
    looked_at = np.linspace(0, len(names) - 1, min(len(names), VERIFIED_FACES)).round().astype(np.int64)
    rows, names = features[looked_at].astype(np.float32), names[looked_at]
    first, second = np.triu_indices(len(rows), 1)
    similarities, same = (rows @ rows.T)[first, second], names[first] == names[second]
    return {
        f"TAR at FAR {rate:g}": _true_accept_rate(similarities[same], -np.sort(-similarities[~same]), rate)
        for rate in FALSE_ACCEPT_RATES
    }


def _true_accept_rate(same: NDArray[np.float32], different: NDArray[np.float32], rate: float) -> float | None:
    """same, different: similarities of the pairs; the latter in falling order."""
    allowed = int(rate * len(different) + 1e-9)
    if not allowed or not len(same):
        return None
    return float((same > different[allowed]).mean())
