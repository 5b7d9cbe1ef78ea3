from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from backend.labelstudio.labeling_config import Control, UnsupportedConfig, read_labeling_config

IMAGE = '<Image name="img" value="$image"/>'
TWO = '<Choice value="cat"/><Choice value="dog"/>'


def view(*tags: str, attributes: str = "") -> str:
    return f"<View {attributes}>{''.join(tags)}</View>"


def choices(inside: str = TWO, attributes: str = "") -> str:
    return f'<Choices name="animal" toName="img" {attributes}>{inside}</Choices>'


def test_reads_choices_on_an_image():
    control = read_labeling_config(view(IMAGE, choices()))
    assert control == Control(
        kind="choices",
        name="animal",
        to_name="img",
        image_key="image",
        classes=("cat", "dog"),
        multiple=False,
        settings={},
    )


@pytest.mark.parametrize(
    ("mode", "multiple"),
    [("", False), ('choice="single"', False), ('choice="single-radio"', False), ('choice="multiple"', True)],
)
def test_choice_mode(mode: str, multiple: bool):
    assert read_labeling_config(view(IMAGE, choices(attributes=mode))).multiple is multiple


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
    "other tags": view(
        IMAGE, '<RectangleLabels name="r" toName="img"><Label value="car"/></RectangleLabels>', choices()
    ),
}


@pytest.mark.parametrize("xml", SUPPORTED.values(), ids=SUPPORTED.keys())
def test_agrees_with_label_studio(xml: str):
    ours = read_labeling_config(xml)
    theirs = LabelInterface(xml)
    control = theirs.get_control(ours.name)
    assert control.to_name == [ours.to_name]
    assert control.labels == list(ours.classes)
    assert control.is_multiple_choice is ours.multiple
    assert theirs.get_object(ours.to_name).value_name == ours.image_key


def test_choice_inside_a_choice_is_not_shown_and_so_no_class():
    xml = view(IMAGE, choices('<Choice value="a"><Choice value="a1"/></Choice><Choice value="b"/>'))
    assert read_labeling_config(xml).classes == ("a", "b")


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


def test_takes_the_first_supported_control():
    xml = view(
        IMAGE,
        '<Text name="txt" value="$text"/>',
        f'<Choices name="tone" toName="txt">{TWO}</Choices>',
        f'<Choices name="region" toName="img" perRegion="true">{TWO}</Choices>',
        f'<Choices name="first" toName="img">{TWO}</Choices>',
        f'<Choices name="second" toName="img">{TWO}</Choices>',
    )
    assert read_labeling_config(xml).name == "first"


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
    "other controls": (
        view(
            IMAGE,
            '<RectangleLabels name="r" toName="img"><Label value="car"/></RectangleLabels>',
            '<TextArea name="t" toName="img"/>',
        ),
        "RectangleLabels, TextArea",
    ),
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
    assert read_labeling_config(xml).classes == ("defect",)


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
    control = read_labeling_config(view(f'<Image name="img" value="{value}"/>', choices()))
    assert control.image_source(data) == source
