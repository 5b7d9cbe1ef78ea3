from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from backend.labelstudio.labeling_config import Control
from backend.labelstudio.results import is_ground_truth, read_target, write_result
from backend.targets import ChoiceTarget, Prediction

CLASSES = ("cat", "dog", "bird")
SINGLE = Control(
    tag="Choices",
    task="classification",
    name="animal",
    to_name="img",
    image_key="image",
    classes=CLASSES,
    multiple=False,
)
MULTIPLE = Control(
    tag="Choices",
    task="classification",
    name="animal",
    to_name="img",
    image_key="image",
    classes=CLASSES,
    multiple=True,
)


def region(*classes: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": "x1",
        "from_name": "animal",
        "to_name": "img",
        "type": "choices",
        "origin": "manual",
        "value": {"choices": list(classes)},
    } | changes


def annotation(*regions: Any, by: Any = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "result": list(regions),
        "was_cancelled": False,
        "ground_truth": False,
        "completed_by": by,
        "created_at": "2026-01-01T10:00:00Z",
        "updated_at": "2026-01-01T10:00:00Z",
    } | changes


def chose(*classes: Any, by: Any = 1, **changes: Any) -> dict[str, Any]:
    return annotation(region(*classes), by=by, **changes)


def read(annotations: list[Any], control: Control) -> ChoiceTarget | None:
    target = read_target(annotations, control)
    assert target is None or isinstance(target, ChoiceTarget)
    return target


def votes(annotations: list[Any], control: Control) -> dict[str, float] | None:
    target = read(annotations, control)
    return None if target is None else dict(target.votes)


def written(control: Control, classes: list[str], score: float) -> list[dict[str, Any]]:
    """The result that says these classes."""
    target = ChoiceTarget(dict.fromkeys(classes, 1.0), 1, control.multiple)
    return write_result(control, Prediction(target, [score] * len(classes), score))


def test_one_annotator():
    target = read([chose("cat")], SINGLE)
    assert target == ChoiceTarget(votes={"cat": 1.0}, annotators=1, multiple=False)
    assert target.majority == {"cat"}
    assert target.agreement == 1


def test_three_annotators_disagree():
    target = read([chose("cat", by=1), chose("dog", by=2), chose("cat", by=3)], SINGLE)
    assert target is not None
    assert target.votes == pytest.approx({"cat": 2 / 3, "dog": 1 / 3})
    assert target.majority == {"cat"}
    assert target.agreement == pytest.approx(2 / 3)


def test_a_tie_has_no_majority():
    target = read([chose("cat", by=1), chose("dog", by=2)], SINGLE)
    assert target is not None
    assert target.majority is None
    assert target.agreement == 0.5


def test_multiple_choice():
    target = read([chose("cat", "dog", by=1), chose("cat", by=2), annotation(by=3)], MULTIPLE)
    assert target is not None
    assert target.votes == pytest.approx({"cat": 2 / 3, "dog": 1 / 3})
    assert target.majority == {"cat"}
    assert target.agreement == pytest.approx(2 / 3)
    assert target.annotators == 3


def test_multiple_choice_half_is_no_majority():
    target = read([chose("cat", by=1), chose("dog", by=2)], MULTIPLE)
    assert target is not None
    assert target.majority == frozenset()
    assert target.agreement == 0.5


def test_none_of_them():
    assert read_target([annotation()], MULTIPLE) == ChoiceTarget(votes={}, annotators=1, multiple=True)
    target = read([annotation()], MULTIPLE)
    assert target is not None and target.majority == frozenset() and target.agreement == 1
    assert read_target([annotation()], SINGLE) is None


def test_no_annotation():
    assert read_target([], SINGLE) is None
    assert read_target([], MULTIPLE) is None


@pytest.mark.parametrize(
    "ignored",
    [
        chose("dog", by=2, was_cancelled=True),
        {
            "id": 5,
            "result": [region("dog")],
            "user": "a@example.com",
            "was_postponed": False,
            "annotation": None,
        },
        chose("wolf", by=2),
        chose("dog", by=2, result=None),
        chose("dog", by=2, result={"0": region("dog")}),
        annotation(region("dog", type="rectanglelabels"), by=2),
        annotation(region("dog", to_name="other"), by=2),
        annotation(region("dog", value=["dog"]), by=2),
        annotation(region("dog", value={"choices": "dog"}), by=2),
        annotation(region(["dog"]), by=2),
        annotation(region("dog"), region(None), by=2),
        {"id": 3},
        "dog",
        None,
    ],
    ids=str,
)
def test_what_tells_nothing_is_left_out(ignored: Any):
    for control in (SINGLE, MULTIPLE):
        assert votes([chose("cat"), ignored], control) == {"cat": 1}
        assert read_target([ignored], control) is None


def test_results_of_other_controls_are_passed_over():
    others = [region("dog", from_name="mood"), {"type": "relation", "from_id": "a"}, "broken", None]
    assert votes([annotation(*others, region("cat"))], SINGLE) == {"cat": 1}
    assert votes([annotation(*others)], MULTIPLE) == {}


def test_classes_no_longer_in_the_config_are_dropped():
    assert votes([chose("wolf", "cat")], MULTIPLE) == {"cat": 1}
    assert votes([chose("wolf", "cat")], SINGLE) == {"cat": 1}
    assert votes([chose("wolf", by=1), chose("cat", by=2)], SINGLE) == {"cat": 1}


def test_several_classes_in_single_choice_count_in_parts():
    assert votes([chose("cat", "dog"), chose("cat", by=2)], SINGLE) == {"cat": 0.75, "dog": 0.25}


def test_ground_truth_overrules():
    annotations = [chose("cat", by=1), chose("cat", by=2), chose("dog", by=3, ground_truth=True)]
    assert votes(annotations, SINGLE) == {"dog": 1}
    assert is_ground_truth(annotations)
    assert not is_ground_truth(annotations[:2])
    assert not is_ground_truth([chose("cat", ground_truth=True, was_cancelled=True), "broken"])


def test_ground_truth_that_tells_nothing_does_not_overrule():
    assert votes([chose("cat"), chose("wolf", by=2, ground_truth=True)], SINGLE) == {"cat": 1}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"updated_at": "2026-01-01T10:00:00Z"}, {"updated_at": "2026-01-01T10:00:00.5Z"}),
        ({"updated_at": "2026-01-01T12:00:00+03:00"}, {"updated_at": "2026-01-01T10:00:00Z"}),
        ({"updated_at": None, "created_at": "2026-01-01"}, {"updated_at": "2026-01-02T00:00:00Z"}),
        ({"updated_at": "broken"}, {"updated_at": "2026-01-01T10:00:00Z"}),
        ({"updated_at": 5}, {"updated_at": "2026-01-01T10:00:00Z"}),
        ({"id": 9}, {"id": 10}),
        ({"id": None}, {"id": 10}),
    ],
    ids=str,
)
def test_the_latest_annotation_of_an_annotator_counts(older: dict[str, Any], newer: dict[str, Any]):
    pair = [chose("cat", by=7, **older), chose("dog", by={"id": 7, "email": "a@example.com"}, **newer)]
    assert votes(pair, SINGLE) == {"dog": 1}
    assert votes(pair[::-1], SINGLE) == {"dog": 1}


def test_unknown_annotators_count_each():
    target = read([chose("cat", by=None), chose("cat", by={}), chose("dog", by=["x"])], SINGLE)
    assert target is not None and target.annotators == 3 and target.majority == {"cat"}


LABELING_CONFIG = """<View><Image name="img" value="$image"/>
<Choices name="animal" toName="img" choice="{mode}">
<Choice value="cat"/><Choice value="dog"/><Choice value="bird"/></Choices></View>"""


@given(
    st.booleans().flatmap(
        lambda multiple: st.tuples(
            st.just(MULTIPLE if multiple else SINGLE),
            st.lists(st.sampled_from(CLASSES), unique=True, max_size=3 if multiple else 1),
        )
    ),
    st.floats(0, 1),
)
def test_result_to_target_to_result(case: tuple[Control, list[str]], score: float):
    control, classes = case
    result = written(control, classes, score)
    mode = "multiple" if control.multiple else "single"
    prediction = {"result": result, "score": 0.1, "model_version": "1"}
    assert (
        LabelInterface(LABELING_CONFIG.format(mode=mode)).validate_prediction(prediction, return_errors=True)
        == []
    )
    target = read([annotation(*result)], control)
    if not classes and not control.multiple:
        assert target is None
    else:
        assert target is not None and target.majority == set(classes)
        again = written(control, [name for name in classes if name in target.majority], score)
        assert again == result


def test_what_is_written():
    assert written(SINGLE, ["cat"], 0.91234) == [
        {
            "from_name": "animal",
            "to_name": "img",
            "type": "choices",
            "value": {"choices": ["cat"]},
            "score": 0.9123,
        }
    ]
    assert written(SINGLE, [], 0.9) == []
    assert written(SINGLE, ["cat"], 1.0000001)[0]["score"] == 1.0


@pytest.mark.parametrize(
    ("classes", "score", "says"),
    [
        (["wolf"], 0.5, "no class 'wolf'"),
        (["cat"], 1.1, "score"),
        (["cat"], float("nan"), "score"),
    ],
)
def test_a_result_that_label_studio_would_drop_is_refused(classes: list[str], score: float, says: str):
    with pytest.raises(ValueError, match=says):
        written(SINGLE, classes, score)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(CLASSES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def altered(base: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The object with some of its values replaced by anything, or gone."""
    changes = st.dictionaries(st.sampled_from(sorted(base)), any_json, max_size=3)
    gone = st.sets(st.sampled_from(sorted(base)), max_size=2)
    return st.builds(
        lambda change, without: {k: v for k, v in (base | change).items() if k not in without}, changes, gone
    )


regions = st.lists(altered(region("cat")) | altered(region("dog", "wolf")) | any_json, max_size=3)
annotations_of_any_kind = st.lists(
    st.builds(lambda base, result: base | {"result": result}, altered(annotation()), regions)
    | altered(chose("bird", by=2))
    | any_json,
    max_size=4,
)


@given(annotations_of_any_kind, st.sampled_from([SINGLE, MULTIPLE]))
def test_whatever_label_studio_holds_is_read(annotations: list[Any], control: Control):
    is_ground_truth(annotations)
    target = read(annotations, control)
    if target is None:
        return
    assert 1 <= target.annotators <= len(annotations)
    assert set(target.votes) <= set(CLASSES)
    assert all(0 < vote <= 1 for vote in target.votes.values())
    assert 0 < target.agreement <= 1
    if not control.multiple:
        assert sum(target.votes.values()) == pytest.approx(1)
    assert ChoiceTarget.from_json(json.loads(json.dumps(target.to_json()))) == target
