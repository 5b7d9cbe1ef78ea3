from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from backend.labelstudio.labeling_config import read_labeling_config
from backend.labelstudio.results import read_target, write_result
from backend.targets import Box, BoxTarget, ChoiceTarget
from tests.labelstudio.marked import (
    altered,
    annotation,
    any_json,
    config,
    config_of_faces,
    control,
    control_of_faces,
    prediction,
    region,
)

# tag → identities, and what Label Studio stores of them
STORED: dict[str, dict[str, dict[str, Any]]] = {
    "Choices": {"Ann": {"choices": ["Ann"]}, "Bo": {"choices": ["Bo"]}},
    "Taxonomy": {
        r"A \/ B / Ann": {"taxonomy": [["A / B", "Ann"]]},
        r"A \/ B / Bo": {"taxonomy": [["A / B", "Bo"]]},
        "Zoe": {"taxonomy": [["Zoe"]]},
    },
    "TextArea": {"Ann": {"text": ["Ann"]}, "ann / b": {"text": ["ann / b"]}, "李": {"text": ["李"]}},
}
PLACE = {"x": 10.0, "y": 20.0, "width": 30.0, "height": 40.0, "rotation": 0}
NAMED = [(tag, name) for tag, names in STORED.items() for name in names]


@pytest.mark.parametrize(("tag", "name"), NAMED)
def test_an_identity_of_an_image(tag: str, name: str):
    asked = control(tag)
    stored = region(asked, STORED[tag][name])
    target = read_target([annotation(stored)], asked)
    assert target == ChoiceTarget({name: 1.0}, 1, multiple=False)
    result = write_result(asked, prediction(target))
    assert [each["value"] for each in result] == [STORED[tag][name]]
    assert LabelInterface(config(tag)).validate_prediction({"result": result}, return_errors=True) == []


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("TextArea", {"text": ["  Ann \n", "Bo"]}),
        ("TextArea", {"text": "Ann"}),
        ("Choices", {"choices": ["Ann", "gone"]}),
        ("Taxonomy", {"taxonomy": [["Zoe"], ["A / B"]]}),  # a branch is nobody
    ],
)
def test_what_else_names_somebody(tag: str, value: dict[str, Any]):
    asked = control(tag)
    target = read_target([annotation(region(asked, value))], asked)
    assert isinstance(target, ChoiceTarget)
    assert list(target.votes) == ["Zoe" if tag == "Taxonomy" else "Ann"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("TextArea", {"text": ["  "]}),
        ("TextArea", {"text": []}),
        ("TextArea", {"text": [1]}),
        ("TextArea", {}),
        ("Taxonomy", {"taxonomy": [[]]}),
        ("Taxonomy", {"taxonomy": ["Zoe"]}),
        ("Taxonomy", {"taxonomy": [["gone"]]}),
        ("Taxonomy", {"taxonomy": None}),
        ("Choices", {"choices": []}),
    ],
)
def test_what_names_nobody(tag: str, value: dict[str, Any]):
    asked = control(tag)
    assert read_target([annotation(region(asked, value))], asked) is None
    assert read_target([annotation()], asked) is None


def test_votes_on_an_identity():
    asked = control("TextArea")
    told = [
        annotation(region(asked, {"text": [name]}), by=by) for by, name in enumerate(["Ann", "ann", "Ann"])
    ]
    target = read_target(told, asked)
    assert isinstance(target, ChoiceTarget) and target.majority == {"Ann"}


@pytest.mark.parametrize("tag", STORED)
def test_somebody_unknown_has_no_identity(tag: str):
    assert write_result(control(tag), prediction(ChoiceTarget({}, 1, multiple=False))) == []


def stored_box(
    tag: str, value: dict[str, Any], number: str = "x1", place: Any = PLACE
) -> list[dict[str, Any]]:
    """A rectangle and who is in it, as Label Studio stores them."""
    asked = control_of_faces(tag)
    rectangle = region(
        asked, place | {"rectanglelabels": ["cat"]}, from_name="box", type="rectanglelabels", id=number
    )
    return [rectangle, region(asked, place | value, id=number)]


@pytest.mark.parametrize(("tag", "name"), NAMED)
def test_an_identity_of_a_box(tag: str, name: str):
    asked = control_of_faces(tag)
    target = read_target([annotation(*stored_box(tag, STORED[tag][name]))], asked)
    assert target == BoxTarget((Box(name, 0.1, 0.2, 0.4, pytest.approx(0.6)),))
    result = write_result(asked, prediction(target))
    written = stored_box(tag, STORED[tag][name], number="box0")
    assert result == [{k: v for k, v in each.items() if k != "origin"} | {"score": 0.5} for each in written]
    assert (
        LabelInterface(config_of_faces(tag)).validate_prediction({"result": result}, return_errors=True) == []
    )


def test_boxes_without_labels_can_have_identities_too():
    xml = config_of_faces("TextArea", '<Rectangle name="face" toName="img"/>')
    asked = read_labeling_config(xml).controls[-1]
    target = BoxTarget((Box("Ann", 0.1, 0.2, 0.4, 0.6), Box("", 0.5, 0.5, 1, 1)))
    result = write_result(asked, prediction(target))
    assert [(each["type"], each["id"]) for each in result] == [
        ("rectangle", "face0"),
        ("textarea", "face0"),
        ("rectangle", "face1"),
    ]
    assert LabelInterface(xml).validate_prediction({"result": result}, return_errors=True) == []
    assert read_target([annotation(*result)], asked) == BoxTarget(target.boxes[:1])


def test_only_boxes_with_an_identity_count():
    asked = control_of_faces("TextArea")
    named = stored_box("TextArea", {"text": ["Ann"]})
    nameless = stored_box("TextArea", {"text": ["Bo"]}, "x2")[:1]
    homeless = stored_box("TextArea", {"text": ["Cy"]}, "x3")[1:]
    away = stored_box("TextArea", {"text": ["Di"]}, "x4", PLACE | {"x": 120})
    target = read_target([annotation(*named, *nameless, *homeless, *away)], asked)
    assert isinstance(target, BoxTarget) and [box.label for box in target.boxes] == ["Ann"]
    for unusable in (nameless, homeless, away):
        assert read_target([annotation(*unusable)], asked) is None
    assert read_target([annotation()], asked) == BoxTarget(())


places = st.floats(0, 99).map(lambda place: round(place, 8))
sizes = st.floats(0.001, 1)


@given(
    st.sampled_from(sorted(STORED)).flatmap(
        lambda tag: st.tuples(
            st.just(tag),
            st.lists(st.tuples(places, places, sizes, sizes, st.sampled_from(sorted(STORED[tag])))),
        )
    )
)
def test_result_to_target_to_result_changes_nothing(case: tuple[str, list[tuple[Any, ...]]]):
    tag, drawn = case
    asked = control_of_faces(tag)
    boxes = [
        Box(name, x / 100, y / 100, x / 100 + width * (1 - x / 100), y / 100 + height * (1 - y / 100))
        for x, y, width, height, name in drawn
    ]
    first = write_result(asked, prediction(BoxTarget(tuple(boxes))))
    target = read_target([annotation(*first)], asked)
    assert target is not None
    assert write_result(asked, prediction(target)) == first


@pytest.mark.parametrize(
    ("tag", "target", "says"),
    [
        ("Choices", ChoiceTarget({"Cy": 1.0}, 1, False), "no class 'Cy'"),
        ("Taxonomy", ChoiceTarget({"A": 1.0}, 1, False), "no class 'A'"),
        ("TextArea", ChoiceTarget({" ": 1.0}, 1, False), "an empty one"),
        ("TextArea", BoxTarget(()), "takes classes"),
    ],
)
def test_what_label_studio_would_drop_is_refused(tag: str, target: Any, says: str):
    with pytest.raises(ValueError, match=says):
        write_result(control(tag), prediction(target))


@pytest.mark.parametrize(
    ("tag", "target", "says"),
    [
        ("Choices", BoxTarget((Box("Cy", 0, 0, 1, 1),)), "no class 'Cy'"),
        ("TextArea", BoxTarget((Box("Ann", 0, 0, 2, 1),)), "in the image"),
        ("TextArea", ChoiceTarget({}, 1, False), "takes boxes"),
    ],
)
def test_what_label_studio_would_drop_of_boxes_is_refused(tag: str, target: Any, says: str):
    with pytest.raises(ValueError, match=says):
        write_result(control_of_faces(tag), prediction(target))


@given(
    st.sampled_from(sorted(STORED)).flatmap(
        lambda tag: st.tuples(
            st.just(tag),
            st.lists(
                st.sampled_from(stored_box(tag, next(iter(STORED[tag].values())))).flatmap(altered)
                | any_json,
                max_size=3,
            ),
        )
    ),
    any_json,
)
def test_whatever_label_studio_holds_is_read(case: tuple[str, list[Any]], value: Any):
    tag, regions = case
    for asked in (control(tag), control_of_faces(tag)):
        read_target([annotation(*regions)], asked)
        kind = "text" if tag == "TextArea" else tag.lower()
        read_target([annotation(*regions, region(asked, {kind: value}))], asked)
