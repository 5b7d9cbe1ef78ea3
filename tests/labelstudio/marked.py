"""Controls that ask for regions, and annotations that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from backend.labelstudio.labeling_config import Control, read_labeling_config
from backend.targets import ChoiceTarget, Prediction, Target

LABELS = '<Label value="cat"/><Label value="dog" alias="d"/>'
TAGS = {
    "RectangleLabels": f'<RectangleLabels name="box" toName="img">{LABELS}</RectangleLabels>',
    "PolygonLabels": f'<PolygonLabels name="polygon" toName="img">{LABELS}</PolygonLabels>',
    "BrushLabels": f'<BrushLabels name="brush" toName="img">{LABELS}</BrushLabels>',
    "BitmaskLabels": f'<BitmaskLabels name="bitmask" toName="img">{LABELS}</BitmaskLabels>',
    "Choices": (
        '<Choices name="who" toName="img" model_task="face" PER><Choice value="Ann"/><Choice value="Bo"/></Choices>'
    ),
    "Taxonomy": (
        '<Taxonomy name="who" toName="img" model_task="face" PER><Choice value="A / B"><Choice value="Ann"/>'
        '<Choice value="Bo"/></Choice><Choice value="Zoe"/></Taxonomy>'
    ),
    "TextArea": '<TextArea name="who" toName="img" model_task="face" PER/>',
}


def config(*tags: str) -> str:
    """A labeling config that asks for regions, or for identities of the image."""
    return f'<View><Image name="img" value="$image"/>{"".join(TAGS[tag] for tag in tags)}</View>'.replace(
        "PER", ""
    )


def config_of_faces(tag: str, boxes: str = TAGS["RectangleLabels"]) -> str:
    """A labeling config that asks for the identity of each box."""
    per_region = TAGS[tag].replace("PER", 'perRegion="true"')
    return f'<View><Image name="img" value="$image"/>{boxes}{per_region}</View>'


def control(tag: str) -> Control:
    return read_labeling_config(config(tag)).controls[0]


def control_of_faces(tag: str) -> Control:
    return read_labeling_config(config_of_faces(tag)).controls[-1]


def region(control: Control, value: Any, size: Any = (200, 100), **changes: Any) -> dict[str, Any]:
    """A region as Label Studio stores it."""
    return {
        "id": "x1",
        "from_name": control.name,
        "to_name": "img",
        "type": control.tag.lower(),
        "origin": "manual",
        "value": value,
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
    } | changes


def annotation(*regions: Any, by: Any = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "result": list(regions),
        "was_cancelled": False,
        "ground_truth": False,
        "completed_by": by,
        "updated_at": "2026-01-01T10:00:00Z",
    } | changes


def prediction(
    target: Target, confidences: Sequence[float] | None = None, size: tuple[int, int] | None = (200, 100)
) -> Prediction:
    """A prediction of a target with some confidence."""
    if confidences is None:
        parts = target.votes if isinstance(target, ChoiceTarget) else getattr(target, "boxes", None)
        count = len(target.regions) if parts is None else len(parts)  # type: ignore[union-attr]
        confidences = [0.5] * count
    return Prediction(target, confidences, 0.5, size)


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.integers(10**400, 10**401)
    | st.text(max_size=5)
    | st.sampled_from(["cat", "d", "x1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def altered(base: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The object with some of its values replaced by anything, or gone."""
    changes = st.dictionaries(st.sampled_from(sorted(base)), any_json, max_size=2)
    gone = st.sets(st.sampled_from(sorted(base)), max_size=1)
    return st.builds(
        lambda change, without: {k: v for k, v in (base | change).items() if k not in without}, changes, gone
    )
