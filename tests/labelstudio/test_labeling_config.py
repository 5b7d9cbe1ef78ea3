from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from backend.labelstudio.labeling_config import (
    Control,
    LabelingConfig,
    UnsupportedConfig,
    read_labeling_config,
)
from backend.labelstudio.taxonomy import class_path, path_class
from backend.targets import VisionTask

IMAGE = '<Image name="img" value="$image"/>'
TWO = '<Choice value="cat"/><Choice value="dog"/>'
TWO_LABELS = '<Label value="car"/><Label value="van"/>'


def view(*tags: str, attributes: str = "") -> str:
    return f"<View {attributes}>{''.join(tags)}</View>"


def labels(tag: str, attributes: str = "") -> str:
    return f'<{tag} name="region" toName="img" {attributes}>{TWO_LABELS}</{tag}>'


def choices(inside: str = TWO, attributes: str = "") -> str:
    return f'<Choices name="animal" toName="img" {attributes}>{inside}</Choices>'


def test_reads_choices_on_an_image():
    config = read_labeling_config(view(IMAGE, choices()))
    control = Control(
        tag="Choices",
        task="classification",
        name="animal",
        to_name="img",
        image_key="image",
        classes=("cat", "dog"),
        multiple=False,
        boxes=None,
        box_label=None,
        settings={},
    )
    assert config == LabelingConfig(controls=(control,), settings={}, left_out=())
    assert config.image_key == "image"


def only(xml: str) -> Control:
    """The only control of a config."""
    (control,) = read_labeling_config(xml).controls
    return control


@pytest.mark.parametrize(
    ("mode", "multiple"),
    [("", False), ('choice="single"', False), ('choice="single-radio"', False), ('choice="multiple"', True)],
)
def test_choice_mode(mode: str, multiple: bool):
    assert only(view(IMAGE, choices(attributes=mode))).multiple is multiple


SUPPORTED = {
    "plain": view(IMAGE, choices()),
    "choices before the image": view(choices(), IMAGE),
    "alias": view(IMAGE, choices('<Choice value="Cat" alias="c"/><Choice value="Dog"/>')),
    "empty alias": view(IMAGE, choices('<Choice value="Cat" alias=""/><Choice value="Dog"/>')),
    "duplicates": view(IMAGE, choices(TWO + TWO)),
    "choice without a value": view(IMAGE, choices(TWO + "<Choice/>")),
    "layout inside": view(IMAGE, choices(f'<Header value="h"/><View><View>{TWO}</View></View>')),
    "nested views": view("<View>", IMAGE, "</View><View><View>", choices(), "</View></View>"),
    "conditional": view(
        IMAGE,
        choices(
            attributes='visibleWhen="choice-selected" whenTagName="first" whenChoiceValue="a" required="true"'
        ),
    ),
    "multiple": view(IMAGE, choices(attributes='choice="multiple"')),
    "non-ASCII": view(IMAGE, choices('<Choice value="кошка"/><Choice value="犬 &amp; &lt;x&gt;"/>')),
    "nested key": view('<Image name="img" value="$meta.url"/>', choices()),
    "comment": view("<!-- {} -->", IMAGE, "<!-- Choices -->", choices()),
    "other tags": view(IMAGE, '<Rating name="r" toName="img"/>', choices()),
    "rectangles": view(IMAGE, labels("RectangleLabels")),
    "rectangles, several a box": view(IMAGE, labels("RectangleLabels", 'choice="multiple"')),
    "smart rectangles": view(
        IMAGE, labels("RectangleLabels", 'smart="true" smartOnly="true" canRotate="false" perRegion="true"')
    ),
    "labels with aliases": view(
        IMAGE, '<RectangleLabels name="r" toName="img"><Label value="Car" alias="c"/></RectangleLabels>'
    ),
    "layout around labels": view(
        IMAGE, f'<PolygonLabels name="r" toName="img"><View>{TWO_LABELS}</View></PolygonLabels>'
    ),
    "polygons": view(IMAGE, labels("PolygonLabels")),
    "brush": view(IMAGE, labels("BrushLabels")),
    "bitmask": view(IMAGE, labels("BitmaskLabels")),
    "faces in choices": view(IMAGE, choices(attributes='model_task="face"')),
    "faces in text": view(IMAGE, '<TextArea name="who" toName="img" model_task="face"/>'),
}


@pytest.mark.parametrize("xml", SUPPORTED.values(), ids=SUPPORTED.keys())
def test_agrees_with_label_studio(xml: str):
    ours = only(xml)
    theirs = LabelInterface(xml)
    control = theirs.get_control(ours.name)
    assert control.tag == ours.tag
    assert control.to_name == [ours.to_name]
    assert control.labels == list(ours.classes)
    if ours.task == "classification":
        assert control.is_multiple_choice is ours.multiple
    assert theirs.get_object(ours.to_name).value_name == ours.image_key


@pytest.mark.parametrize(
    ("tag", "task"),
    [
        ("RectangleLabels", "detection"),
        ("PolygonLabels", "segmentation"),
        ("BrushLabels", "segmentation"),
        ("BitmaskLabels", "segmentation"),
    ],
)
def test_reads_regions_on_an_image(tag: str, task: VisionTask):
    control = Control(tag, task, "region", "img", "image", ("car", "van"), multiple=True)
    assert only(view(IMAGE, labels(tag))) == control
    # what the root View says of faces does not concern a control that cannot name them
    assert only(view(IMAGE, labels(tag), attributes='model_task="face"')) == control


IDENTITIES = {
    "choices": (choices(attributes='model_task="face"'), ("cat", "dog")),
    "text": ('<TextArea name="who" toName="img" model_task="face"/>', ()),
    "text with a default": ('<TextArea name="who" toName="img" value="?" model_task="face"/>', ()),
    "taxonomy": (
        '<Taxonomy name="who" toName="img" model_task="face"><Choice value="A"><Choice value="Ann" alias="a1"/>'
        '<Choice value="Al / B\\"/></Choice><Choice value="Zoe"/></Taxonomy>',
        ("A / a1", r"A / Al \/ B\\", "Zoe"),
    ),
    "fetched taxonomy": (
        '<Taxonomy name="who" toName="img" apiUrl="https://x/people.json" model_task="face"/>',
        (),
    ),
}


@pytest.mark.parametrize(("tag", "classes"), IDENTITIES.values(), ids=IDENTITIES.keys())
def test_reads_identities(tag: str, classes: tuple[str, ...]):
    control = only(view(IMAGE, tag))
    assert (control.task, control.classes, control.multiple) == ("face", classes, False)
    assert only(view(IMAGE, tag.replace('model_task="face"', ""), attributes='model_task="face"')) == control
    assert [class_path(name) for name in control.classes if " / " in name] in (
        [],
        [["A", "a1"], ["A", "Al / B\\"]],
    )


@given(st.lists(st.text(st.sampled_from("a /\\") | st.characters()), min_size=1))
def test_a_path_is_one_class_and_back(path: list[str]):
    assert class_path(path_class(path)) == path


PER_REGION = '<TextArea name="who" toName="img" perRegion="true" model_task="face" {}/>'


@pytest.mark.parametrize(
    ("regions", "attributes", "boxes", "label"),
    [
        (labels("RectangleLabels"), "", "region", "car"),
        (labels("RectangleLabels"), 'whenLabelValue="van"', "region", "van"),
        (
            '<RectangleLabels name="f" toName="img"><Label value="Face" alias="f1"/></RectangleLabels>',
            'whenLabelValue="Face"',
            "f",
            "f1",
        ),
        ('<Rectangle name="box" toName="img"/>', "", "box", None),
        (labels("BrushLabels") + '<Rectangle name="box" toName="img"/>', "", "box", None),
    ],
)
def test_identities_of_boxes(regions: str, attributes: str, boxes: str, label: str | None):
    config = read_labeling_config(view(IMAGE, PER_REGION.format(attributes), regions))
    who = config.controls[0]
    assert (who.task, who.boxes, who.box_label, who.multiple) == ("face", boxes, label, True)
    assert config.left_out == ()


def test_every_control_is_read_in_the_order_of_the_config():
    config = read_labeling_config(
        view(
            labels("BrushLabels"),
            IMAGE,
            '<Relations><Relation value="on"/></Relations>',
            '<Filter name="f" toName="animal"/>',
            choices(),
            '<TextArea name="note" toName="img"/>',
            '<Image name="other" value="$other"/>',
            '<Choices name="tone" toName="other"><Choice value="a"/><Choice value="b"/></Choices>',
            '<KeyPointLabels name="joint" toName="img"><Label value="knee"/></KeyPointLabels>',
            '<EllipseLabels name="wheel" toName="img"><Label value="wheel"/></EllipseLabels>',
        )
    )
    assert [control.name for control in config.controls] == ["region", "animal"]
    says = [
        'model_task="face"',
        "another image than 'region'",
        "key points",
        "'EllipseLabels' 'wheel' cannot",
    ]
    assert len(config.left_out) == len(says)
    for sentence, part in zip(config.left_out, says, strict=True):
        assert part in sentence and sentence.isascii() and len(sentence) < 200


def test_settings_of_an_earlier_control_win():
    xml = view(
        IMAGE,
        choices(attributes='model_strategy="entropy" model_task="classification"'),
        labels("RectangleLabels", 'model_strategy="margin" model_backbone="b"'),
        attributes='model_strategy="bald" model_backbone="a" model_audit_share="0.2" model_task="face"',
    )
    config = read_labeling_config(xml)
    assert config.settings == {"strategy": "entropy", "backbone": "b", "audit_share": "0.2"}
    assert [control.settings for control in config.controls] == [
        {"strategy": "entropy", "backbone": "a", "audit_share": "0.2"},
        {"strategy": "margin", "backbone": "b", "audit_share": "0.2"},
    ]


def test_choice_inside_a_choice_is_not_shown_and_so_no_class():
    xml = view(IMAGE, choices('<Choice value="a"><Choice value="a1"/></Choice><Choice value="b"/>'))
    assert only(xml).classes == ("a", "b")


def test_settings_of_the_control_win_over_those_of_the_view():
    xml = view(
        IMAGE,
        choices(attributes='model_strategy="entropy" model_score_threshold="0.5"'),
        attributes='model_strategy="margin" model_audit_share="0.2" style="x"',
    )
    assert read_labeling_config(xml).settings == {
        "strategy": "entropy",
        "score_threshold": "0.5",
        "audit_share": "0.2",
    }


def test_takes_what_is_supported():
    xml = view(
        IMAGE,
        '<Text name="txt" value="$text"/>',
        f'<Choices name="tone" toName="txt">{TWO}</Choices>',
        f'<Choices name="region" toName="img" perRegion="true">{TWO}</Choices>',
        f'<Choices name="first" toName="img">{TWO}</Choices>',
        f'<Choices name="second" toName="img">{TWO}</Choices>',
    )
    config = read_labeling_config(xml)
    assert [control.name for control in config.controls] == ["first", "second"]
    assert len(config.left_out) == 2


def test_takes_the_image_that_the_choices_are_on():
    xml = view(
        '<Image name="left" value="$left"/>', IMAGE, '<Image name="many" valueList="$many"/>', choices()
    )
    assert read_labeling_config(xml).image_key == "image"


UNSUPPORTED = {
    "empty": ("", "well-formed"),
    "malformed": ("<View><Image</View>", "well-formed"),
    "surrogate": ("<View>\ud800</View>", "well-formed"),
    "entity": ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "DOCTYPE"),
    "doctype": (f"<!DOCTYPE View>{view(IMAGE, choices())}", "DOCTYPE"),
    "no tag at all": ("<View/>", "no image"),
    "no image": (view('<Text name="img" value="$text"/>', choices()), "no image"),
    "several images": (view('<Image name="img" valueList="$images"/>', choices()), "valueList"),
    "image without a value": (view('<Image name="img"/>', choices()), "value="),
    "image without a name": (view('<Image value="$image"/>', choices()), "name"),
    "image from a template": (view('<Image name="img" value="https://x/$id.png"/>', choices()), "one key"),
    "only the image": (view(IMAGE), "no control tag"),
    "key points": (
        view(IMAGE, '<KeyPointLabels name="k" toName="img"><Label value="knee"/></KeyPointLabels>'),
        "key points, which cannot be learned",
    ),
    "ellipses": (
        view(IMAGE, '<EllipseLabels name="e" toName="img"><Label value="eye"/></EllipseLabels>'),
        "use Choices, RectangleLabels",
    ),
    "vectors": (view(IMAGE, '<VectorLabels name="v" toName="img"/>'), "use Choices, RectangleLabels"),
    "relations": (view(IMAGE, '<Relations><Relation value="on"/></Relations>'), "no control tag"),
    "regions and labels apart": (
        view(
            IMAGE,
            '<Rectangle name="r" toName="img"/><Labels name="l" toName="img"><Label value="a"/></Labels>',
        ),
        "write both as one, <RectangleLabels>",
    ),
    "labels from the data": (
        view(IMAGE, labels("RectangleLabels", 'value="$labels"')),
        "list them as <Label> tags",
    ),
    "no label": (view(IMAGE, '<BrushLabels name="r" toName="img"/>'), "add <Label> tags"),
    "text that names nobody": (view(IMAGE, '<TextArea name="t" toName="img"/>'), 'model_task="face"'),
    "taxonomy that names nobody": (view(IMAGE, '<Taxonomy name="t" toName="img"/>'), 'model_task="face"'),
    "unknown task": (view(IMAGE, choices(attributes='model_task="faces"')), 'or model_task="face"'),
    "faces of rectangles": (view(IMAGE, labels("RectangleLabels", 'model_task="face"')), "detection"),
    "several identities": (
        view(IMAGE, choices(attributes='choice="multiple" model_task="face"')),
        "several people for one face",
    ),
    "identities of no boxes": (view(IMAGE, PER_REGION.format("")), "add <RectangleLabels>"),
    "choices on a text": (
        view(IMAGE, '<Text name="txt" value="$t"/>', f'<Choices name="c" toName="txt">{TWO}</Choices>'),
        "toName='img'",
    ),
    "choices on two": (
        view(IMAGE, '<Image name="b" value="$b"/>', f'<Choices name="c" toName="img,b">{TWO}</Choices>'),
        "toName='img'",
    ),
    "choices without a name": (view(IMAGE, f'<Choices toName="img">{TWO}</Choices>'), "name"),
    "per region": (view(IMAGE, choices(attributes='perRegion="true"')), "remove perRegion"),
    "per region, other case": (view(IMAGE, choices(attributes='perregion="True"')), "remove perRegion"),
    "per item": (view(IMAGE, choices(attributes='perItem="true"')), "remove perItem"),
    "from the data": (view(IMAGE, choices("", 'value="$options"')), "from the task data"),
    "nested": (view(IMAGE, choices(attributes='allowNested="true"')), "remove allowNested"),
    "unknown mode": (view(IMAGE, choices(attributes='choice="many"')), "unknown mode"),
    "no class": (view(IMAGE, choices("")), "too few classes"),
    "one class": (view(IMAGE, choices('<Choice value="cat"/>')), "too few classes"),
    "deep": (view(IMAGE, choices("<View>" * 5000 + "</View>" * 5000)), "too few classes"),
}


@pytest.mark.parametrize(("xml", "says"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_unsupported_config_says_what_is_missing(xml: str, says: str):
    with pytest.raises(UnsupportedConfig) as refused:
        read_labeling_config(xml)
    message = str(refused.value)
    assert says in message
    assert message.isascii() and message.isprintable() and len(message) < 200


@pytest.mark.parametrize(
    "xml",
    [
        f"<View><{'é' * 300}</View>",
        '<View><Image name="NAME" valueList="$a"/></View>',
        '<View><Image name="NAME"/></View>',
        '<View><Image name="NAME" value="$a"/><Choices name="NAME" toName="x"/></View>',
        '<View><Image name="NAME" value="$a"/><Choices name="NAME" toName="NAME" perRegion="true"/></View>',
        '<View><Image name="NAME" value="$a"/><Choices name="NAME" toName="NAME" value="$b"/></View>',
        '<View><Image name="NAME" value="$a"/><Choices name="NAME" toName="NAME"/></View>',
        f'<View><Image name="NAME" value="$a"/><{"é" * 300} name="NAME" toName="NAME"/></View>',
    ],
)
def test_a_hostile_name_does_not_break_the_sentence(xml: str):
    with pytest.raises(UnsupportedConfig) as refused:
        read_labeling_config(xml.replace("NAME", "é'😀&#10;X-Injected: 1" * 100))
    message = str(refused.value)
    assert message.isascii() and message.isprintable() and len(message) < 200


def test_one_class_is_enough_where_none_may_be_chosen():
    xml = view(IMAGE, choices('<Choice value="defect"/>', 'choice="multiple"'))
    assert only(xml).classes == ("defect",)


@given(st.text())
def test_any_text_is_read_or_refused(xml: str):
    with pytest.raises(UnsupportedConfig) as refused:
        read_labeling_config(xml)
    assert len(str(refused.value)) < 200 and str(refused.value).isascii()


@pytest.mark.parametrize(
    ("value", "data", "source"),
    [
        ("$image", {"image": "/data/upload/1/a.png"}, "/data/upload/1/a.png"),
        ("$meta.url", {"meta": {"url": "s3://b/a.png"}}, "s3://b/a.png"),
        ("$image", {"$undefined$": "/data/upload/1/a.png"}, "/data/upload/1/a.png"),
        ("$image", {}, None),
        ("$image", {"image": ["a", "b"]}, None),
        ("$image", {"image": ""}, None),
        ("$meta.url", {"meta": "s3://b/a.png"}, None),
    ],
)
def test_image_source(value: str, data: dict[str, object], source: str | None):
    config = read_labeling_config(view(f'<Image name="img" value="{value}"/>', choices()))
    assert config.image_source(data) == source
