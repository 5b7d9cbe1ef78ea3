"""What people and other programs write, damaged in a hundred thousand ways: an answer, or a declared error."""

import base64
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from backend.labelstudio import bitmask, brush
from backend.labelstudio.labeling_config import UnsupportedConfig, read_labeling_config
from backend.labelstudio.results import is_ground_truth, labels_in, read_target
from backend.labelstudio.taxonomy import class_path, path_class
from backend.learners.tasks import read_stored_target
from backend.protocol import ProjectReference
from backend.settings import InvalidSettings, LoopSettings
from strategies import InvalidSpec, strategy
from strategies.stopping import criterion
from tests.security.mutation import changed, damaged_bytes, damaged_text, pick, strange
from tests.security.watch import INPUTS, run, within

IMAGE = '<Image name="image" value="$image"/>'
LABELS = '<Label value="cat" alias="c"/><Label value="dog"/>'
CHOICES = '<Choice value="cat" alias="c"/><Choice value="dog"><Choice value="pug"/></Choice>'
CONFIGS = (
    f'<View model_strategy="margin">{IMAGE}<Choices name="a" toName="image" choice="multiple">{CHOICES}'
    "</Choices></View>",
    f'<View>{IMAGE}<Taxonomy name="a" toName="image" model_task="face">{CHOICES}</Taxonomy></View>',
    f'<View>{IMAGE}<TextArea name="a" toName="image" model_task="face"/></View>',
    f'<View>{IMAGE}<RectangleLabels name="a" toName="image" model_window="5">{LABELS}</RectangleLabels></View>',
    f'<View>{IMAGE}<PolygonLabels name="a" toName="image">{LABELS}</PolygonLabels></View>',
    f'<View>{IMAGE}<BrushLabels name="a" toName="image">{LABELS}</BrushLabels></View>',
    f'<View>{IMAGE}<BitmaskLabels name="a" toName="image">{LABELS}</BitmaskLabels></View>',
    f'<View>{IMAGE}<RectangleLabels name="b" toName="image">{LABELS}</RectangleLabels>'
    '<TextArea name="a" toName="image" perRegion="true" model_task="face"/></View>',
)
CONTROLS = tuple(read_labeling_config(config).controls[-1] for config in CONFIGS)

SIDE = 16
EDGES = np.array([3, 40, 90, 200])
MASK = bitmask.encode([np.eye(SIDE, dtype=np.uint8)], SIDE, SIDE)
VALUES: dict[str, dict[str, Any]] = {
    "choices": {"choices": ["c"]},
    "taxonomy": {"taxonomy": [["dog", "pug"], ["c"]]},
    "textarea": {"text": ["Ada"]},
    "rectanglelabels": {"x": 10, "y": 10.5, "width": 30, "height": 20, "rotation": 45, "rectanglelabels": ["dog"]},
    "polygonlabels": {"points": [[1, 1], [50, 2], [40, 60]], "closed": True, "polygonlabels": ["dog"]},
    "brushlabels": {"format": "rle", "rle": brush.encode(EDGES, SIDE * SIDE), "brushlabels": ["dog"]},
    "bitmasklabels": {"imageDataURL": MASK, "bitmasklabels": ["dog"]},
}  # fmt: skip


def annotations(of: int) -> list[dict[str, Any]]:
    """Two annotators' results for a control."""
    control = CONTROLS[of]
    kinds = {control.name: control.tag.lower()} | (
        {control.boxes: "rectanglelabels"} if control.boxes else {}
    )
    place = VALUES["rectanglelabels"] if control.boxes else {}
    regions = [
        {"id": "r", "from_name": name, "to_name": "image", "type": kind, "value": place | VALUES[kind],
         "original_width": SIDE, "original_height": SIDE}
        for name, kind in kinds.items()
    ]  # fmt: skip
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00.5+02:00"}
    return [
        {
            "id": number,
            "completed_by": number,
            "result": regions,
            "ground_truth": False,
            "was_cancelled": False,
        }
        | times
        for number in (1, 2)
    ]


def says(error: Exception) -> None:
    """It is a sentence for a person, and not about our code."""
    assert len(str(error)) > 10
    assert "Traceback" not in str(error) and "0x" not in str(error).replace("0xd8", "")


@pytest.mark.parametrize("of", range(len(CONTROLS)), ids=lambda of: f"{CONTROLS[of].tag}-{CONTROLS[of].task}")
def test_results(of: int) -> None:
    assert read_target(annotations(of), CONTROLS[of]) is not None  # undamaged, it tells something

    def one(number: int) -> None:
        chance = random.Random(number)
        given: Any = annotations(of)
        for _ in range(chance.randint(1, 4)):
            given = changed(given, chance)
        if not isinstance(given, list):
            given = [given]
        is_ground_truth(given)
        target = read_target(given, CONTROLS[of])
        assert target is None or read_stored_target(CONTROLS[of], target.to_json()) is not None

    run(one, INPUTS["results"] // len(CONTROLS))


@pytest.mark.parametrize("of", range(len(CONFIGS)))
def test_labeling_configs(of: int) -> None:
    def one(number: int) -> None:
        chance = random.Random(number)
        given = damaged_text(CONFIGS[of], chance)
        if chance.random() < 0.1:
            given = given.replace(
                "<View", chance.choice(('<!DOCTYPE a [<!ENTITY b "c">]><View', "\ud800<View", "<V" * 500))
            )
        try:
            assert read_labeling_config(given).controls
        except UnsupportedConfig as error:
            says(error)
            assert str(error).isascii()  # it stands in a reason phrase

    run(one, INPUTS["labeling configs"] // len(CONFIGS))


def test_a_labeling_config_of_many_levels() -> None:
    levels = 20_000
    config = (
        CONFIGS[0]
        .replace("<Choices", "<View>" * levels + "<Choices")
        .replace("</Choices>", "</Choices>" + "</View>" * levels)
    )
    assert read_labeling_config(config).controls
    taxonomy = CONFIGS[1].replace(
        '<Choice value="pug"/>', '<Choice value="a">' * levels + "</Choice>" * levels
    )
    with pytest.raises(UnsupportedConfig, match="a path of more than 500 characters"):
        read_labeling_config(taxonomy)


def view(*tags: str, attributes: str = "") -> str:
    return f"<View {attributes}>{IMAGE}{''.join(tags)}</View>"


def texts(number: int, attributes: str = "") -> str:
    return "".join(
        f'<TextArea name="t{n}" toName="image" model_task="face" {attributes}/>' for n in range(number)
    )


def attributes(number: int) -> str:
    return " ".join(f'model_a{n}=""' for n in range(number))


NESTED = '<Taxonomy name="t" toName="image" model_task="face">'
LEAVES = "".join(f'<Choice value="a{n}"/>' for n in range(20_000))
TOO_LARGE = {
    "megabytes of attributes and controls": (
        view(texts(60_000), attributes=attributes(40_000)),
        "characters",
    ),
    "megabytes of controls": (view(texts(80_000, 'perRegion="true"')), "characters"),
    "attributes and controls": (view(texts(5_000), attributes=attributes(9_000)), "9000 model_"),
    "attributes of a control": (view(texts(1, attributes(9_000))), "9000 model_"),
    "controls": (view(texts(9_000, 'perRegion="true"')), "9,000 control tags"),
    "controls in controls": (view(NESTED * 5_000 + "</Taxonomy>" * 5_000), "5,000 control tags"),
    "classes of a long path": (
        view(f'{NESTED}<Choice value="{"a" * 400_000}">{LEAVES}</Choice></Taxonomy>'),
        "more than 500 characters",
    ),
}


@pytest.mark.parametrize(("config", "says"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_labeling_config_that_is_too_large_is_refused_at_once(config: str, says: str) -> None:
    with within(20, 300), pytest.raises(UnsupportedConfig, match=says) as refused:
        read_labeling_config(config)
    assert str(refused.value).isascii() and len(str(refused.value)) < 200


def test_a_labeling_config_just_small_enough_is_read_at_once() -> None:
    labels = "".join(f'<Label value="a{n}"/>' for n in range(30_000))
    boxes = f'<RectangleLabels name="b" toName="image">{labels}</RectangleLabels>'
    config = view(boxes, texts(99, 'perRegion="true" whenLabelValue="a29999"'), attributes=attributes(100))
    with within(20, 300):
        controls = read_labeling_config(config).controls
    assert len(controls) == 100 and len(controls[0].classes) == 30_000
    assert {control.box_label for control in controls[1:]} == {"a29999"}
    leaves = f'<Choice value="{"a" * 400}">{LEAVES}</Choice>'
    with within(20, 300):  # a class belongs to the innermost control
        controls = read_labeling_config(view(NESTED * 100 + leaves + "</Taxonomy>" * 100)).controls
    assert [len(control.classes) for control in controls] == [0] * 99 + [20_000]


def test_run_lengths_of_a_brush() -> None:
    def one(number: int) -> None:
        chance = random.Random(number)
        rle = list(damaged_bytes(bytes(VALUES["brushlabels"]["rle"]), chance))
        if chance.random() < 0.05:
            rle = changed(rle, chance)
        try:
            edges = brush.decode(rle, SIDE * SIDE)
            assert len(edges) % 2 == 0 and (np.diff(edges) > 0).all()
        except ValueError as error:
            says(error)

    run(one, INPUTS["brushes"])


def test_pictures_of_a_bitmask() -> None:
    prefix, _, encoded = MASK.partition(",")

    def one(number: int) -> None:
        chance = random.Random(number)
        data = base64.b64encode(damaged_bytes(base64.b64decode(encoded), chance)).decode()
        try:
            picture = bitmask.decode(f"{prefix},{data}", SIDE * SIDE)
            assert (
                isinstance(picture, Image.Image) and sum(map(len, bitmask.opaque(picture))) == picture.height
            )
        except ValueError as error:
            says(error)

    run(one, INPUTS["bitmasks"])


def test_taxonomies() -> None:
    def one(number: int) -> None:
        chance = random.Random(number)
        path = [
            damaged_text(pick(("a/b", "\\", " / ", "x"), chance), chance) for _ in range(chance.randint(1, 4))
        ]
        assert class_path(path_class(path)) == path
        labels_in([{"type": "taxonomy", "value": {"taxonomy": [path]}}])

    run(one, INPUTS["taxonomies"])


SPECS: tuple[Any, ...] = (
    "margin",
    "default",
    {"filter_then_diversify": {"keep": 5}},
    {"product": {"objectives": ["margin", "k_center_greedy"]}},
    '{"filter_then_diversify": {"keep": 5}}',
    {"any": ["plateau", {"budget": 400}]},
)


@pytest.mark.parametrize("make", [strategy, criterion])
def test_strategies_and_criteria(make: Callable[[Any], Any]) -> None:
    def one(number: int) -> None:
        chance = random.Random(number)
        spec = changed(pick(SPECS, chance), chance)
        try:
            make(spec)
        except InvalidSpec as error:
            says(error)

    run(one, INPUTS["specs"] // 2)


def test_settings() -> None:
    names = list(LoopSettings.model_fields)
    fine = {"window": 5, "strategy": "margin", "audit_share": 0.2, "preannotate": True, "embedding": "auto"}

    def one(number: int) -> None:
        chance = random.Random(number)
        attributes = {pick(names, chance): str(strange(chance))} if chance.random() < 0.3 else {}
        params = changed(fine | {pick(names, chance): strange(chance)}, chance)
        try:
            LoopSettings.resolve(attributes, params if isinstance(params, dict) else {})
        except InvalidSettings as error:
            says(error)

    run(one, INPUTS["settings"])


def test_project_references() -> None:
    def one(number: int) -> None:
        chance = random.Random(number)
        given = pick((damaged_text("3.1760000000.5", chance), strange(chance)), chance)
        try:
            reference = ProjectReference.parse(given)
            assert 0 <= reference.id < 2**31 and 0 <= reference.created < 2**63
        except (ValueError, ValidationError):
            pass

    run(one, INPUTS["references"])


def test_they_are_many() -> None:
    assert sum(INPUTS.values()) >= 100_000
