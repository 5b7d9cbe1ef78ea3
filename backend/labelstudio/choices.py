"""Results of Choices, Taxonomy and TextArea, asked once an image ↔ the class or identity of the image.

The formats: https://labelstud.io/tags/choices, https://labelstud.io/tags/taxonomy and
https://labelstud.io/tags/textarea
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.labelstudio.control import Control
from backend.labelstudio.regions import written
from backend.labelstudio.taxonomy import class_path, path_class
from backend.targets import ChoiceTarget, Prediction


def read(result: Sequence[Any], control: Control) -> frozenset[str] | None:
    """The classes that one annotation chose.

    None, as it tells nothing, if
    - a region of this control cannot be read: it is of another type or image, or names no classes;
    - it chose only classes that the config no longer has (of others, such classes are dropped);
    - it chose nothing, unless the control is multiple choice: there it says "none of them".
    """
    named: set[str] = set()
    for region in result:
        if not isinstance(region, Mapping) or region.get("from_name") != control.name:
            continue
        names = names_of(region, control)
        if names is None:
            return None
        named.update(names)
    known = known_names(named, control)
    if not known and (named or not control.multiple):
        return None
    return frozenset(known)


def combine(answers: Sequence[frozenset[str]], control: Control) -> ChoiceTarget:
    """The votes; an annotator who chose several classes in single choice counts for each in equal parts."""
    votes: dict[str, float] = {}
    for chosen in answers:
        weight = 1.0 if control.multiple else 1 / len(chosen)
        for name in sorted(chosen):
            votes[name] = votes.get(name, 0.0) + weight
    return ChoiceTarget(
        votes={name: vote / len(answers) for name, vote in votes.items()},
        annotators=len(answers),
        multiple=control.multiple,
    )


def write(control: Control, prediction: Prediction) -> list[dict[str, Any]]:
    """The classes with a majority; empty for none.

    Raises ValueError for what Label Studio's prediction import would drop in silence.
    """
    target = prediction.target
    if not isinstance(target, ChoiceTarget):
        raise ValueError(f"{control.name} takes classes, not {type(target).__name__}")
    chosen = target.majority if target.votes else None
    if not chosen:
        return []
    places = {name: place for place, name in enumerate(control.classes)}
    names = sorted(chosen, key=lambda name: (places.get(name, len(places)), name))
    return [written(control, value_of(names, control), prediction.confidence)]


def names_of(region: Mapping[str, Any], control: Control) -> list[str] | None:
    """The classes that a region names; None where it cannot be read."""
    value = region.get("value")
    if region.get("type") != control.tag.lower() or region.get("to_name") != control.to_name:
        return None
    if not isinstance(value, Mapping):
        return None
    match control.tag:
        case "Taxonomy":
            paths = value.get("taxonomy")
            if not isinstance(paths, list) or not all(map(_texts, paths)):
                return None
            return [path_class(path) for path in paths]
        case "TextArea":
            text = value.get("text")
            texts = _texts([text] if isinstance(text, str) else text)
            return None if texts is None else [name for text in texts[:1] if (name := text.strip())]
        case _:
            return _texts(value.get("choices"))


def known_names(names: Sequence[str] | set[str], control: Control) -> list[str]:
    """Those that the config has; all where it lists none."""
    return [name for name in names if not control.classes or name in control.classes]


def value_of(names: Sequence[str], control: Control) -> dict[str, Any]:
    """What a region says that names these classes. Raises ValueError where it cannot say so."""
    if not control.multiple and len(names) > 1:
        raise ValueError(f"{control.name} is single choice: give one class, not {len(names)}")
    if unknown := [name for name in names if name not in known_names(names, control)]:
        raise ValueError(f"{control.name} has no class {unknown[0]!r}: read the labeling config again")
    match control.tag:
        case "Taxonomy":
            return {"taxonomy": [class_path(name) for name in names]}
        case "TextArea":
            if not all(name.strip() for name in names):
                raise ValueError(f"{control.name} needs a name, not an empty one")
            return {"text": list(names)}
        case _:
            return {"choices": list(names)}


def _texts(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None
