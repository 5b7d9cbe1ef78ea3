"""What Label Studio exports of annotations, beside what is read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.brush import mask2rle
from label_studio_sdk.converter.converter import Format
from PIL import Image

from backend.labelstudio.pixels import decoded
from backend.labelstudio.results import read_target
from backend.targets import BoxTarget, MaskTarget, Polygon
from tests.labelstudio.marked import annotation, config, control, region

WIDTH, HEIGHT = 200, 100


@pytest.fixture
def exported(tmp_path: Path) -> Any:
    """Exports regions of one tag in a format; gives the folder of the export."""

    output = tmp_path / "export"
    output.mkdir()

    def export(tag: str, regions: list[dict[str, Any]], kind: Format) -> Path:
        image = tmp_path / "image.png"
        Image.new("RGB", (WIDTH, HEIGHT)).save(image)
        task = {"id": 7, "data": {"image": str(image)}, "annotations": [annotation(*regions)]}
        (tmp_path / "tasks.json").write_text(json.dumps([task]))
        converter = Converter(config(tag), str(tmp_path), download_resources=False)
        converter.convert(str(tmp_path / "tasks.json"), str(output), kind, is_dir=False)
        return output

    return export


def rectangles() -> list[dict[str, Any]]:
    drawn = np.random.default_rng(0).uniform(0, 50, (20, 4))
    return [
        region(
            control("RectangleLabels"),
            {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": [label]},
            size=(WIDTH, HEIGHT),
        )
        for (x, y, w, h), label in zip(drawn.tolist(), ["cat", "d"] * 10, strict=True)
    ]


def test_boxes_in_coco(exported: Any):
    target = read_target([annotation(*rectangles())], control("RectangleLabels"))
    assert isinstance(target, BoxTarget)
    content = json.loads((exported("RectangleLabels", rectangles(), Format.COCO) / "result.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [(names[each["category_id"]], pytest.approx(each["bbox"])) for each in content["annotations"]] == [
        (
            box.label,
            [
                box.left * WIDTH,
                box.top * HEIGHT,
                (box.right - box.left) * WIDTH,
                (box.bottom - box.top) * HEIGHT,
            ],
        )
        for box in target.boxes
    ]


def test_boxes_in_voc(exported: Any):
    """It cuts the fractions of place and size off."""
    target = read_target([annotation(*rectangles())], control("RectangleLabels"))
    assert isinstance(target, BoxTarget)
    (file,) = exported("RectangleLabels", rectangles(), Format.VOC).glob("Annotations/*.xml")
    theirs = [
        (
            each.findtext("name"),
            *(int(each.findtext(f"bndbox/{edge}") or "") for edge in ("xmin", "ymin", "xmax", "ymax")),
        )
        for each in ElementTree.parse(file).iter("object")
    ]
    assert theirs == [
        (
            box.label,
            int(box.left * WIDTH),
            int(box.top * HEIGHT),
            int(box.left * WIDTH) + int((box.right - box.left) * WIDTH),
            int(box.top * HEIGHT) + int((box.bottom - box.top) * HEIGHT),
        )
        for box in target.boxes
    ]


def test_polygons_in_coco(exported: Any):
    drawn = np.random.default_rng(0).uniform(0, 100, (3, 7, 2)).tolist()
    asked = control("PolygonLabels")
    regions = [
        region(asked, {"points": points, "closed": True, "polygonlabels": ["d"]}, size=(WIDTH, HEIGHT))
        for points in drawn
    ]
    target = read_target([annotation(*regions)], asked)
    assert isinstance(target, MaskTarget)
    content = json.loads((exported("PolygonLabels", regions, Format.COCO) / "result.json").read_text())
    for polygon, theirs in zip(target.regions, content["annotations"], strict=True):
        assert isinstance(polygon, Polygon)
        corners = [place for x, y in polygon.points for place in (x * WIDTH, y * HEIGHT)]
        assert theirs["segmentation"] == [pytest.approx(corners)]


@pytest.mark.parametrize(("kind", "ending"), [(Format.BRUSH_TO_PNG, "png"), (Format.BRUSH_TO_NUMPY, "npy")])
def test_brush_masks(exported: Any, kind: Format, ending: str):
    asked = control("BrushLabels")
    masks = np.random.default_rng(0).random((2, HEIGHT, WIDTH)) < 0.5
    regions = [
        region(
            asked,
            {"format": "rle", "rle": mask2rle(mask.astype(np.uint8) * 255), "brushlabels": [label]},
            size=(WIDTH, HEIGHT),
        )
        for mask, label in zip(masks, ["cat", "d"], strict=True)
    ]
    target = read_target([annotation(*regions)], asked)
    assert isinstance(target, MaskTarget)
    output = exported("BrushLabels", regions, kind)
    for each in target.regions:
        (file,) = output.glob(f"*-brush-{each.label}-0.{ending}")
        theirs = np.load(file) if ending == "npy" else np.asarray(Image.open(file))
        assert np.array_equal(decoded(each) > 0, theirs > 0)  # type: ignore[arg-type]
