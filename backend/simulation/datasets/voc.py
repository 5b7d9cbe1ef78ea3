"""Images with an XML file of boxes each, as of Pascal VOC.

    cells/images/1.jpg          cells/classes.txt           optional: names, in the order that they are to have
    cells/annotations/1.xml     cells/splits/test.txt       optional: a name of an image on each line

The names of VOC itself do as well: `JPEGImages/`, `Annotations/`, `ImageSets/Main/test.txt`. An XML file has the same
name as its image. An image has the classes of the objects in it; one whose file has no object has none. The test split
is as of images with masks.

The format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from backend.simulation.datasets.class_names import in_natural_order, listed_classes
from backend.simulation.datasets.contents import Contents, Example
from backend.simulation.datasets.errors import DatasetError
from backend.simulation.datasets.images import MAX_BYTES, ImageFile, image_files
from backend.simulation.datasets.splits import test_names
from backend.simulation.datasets.truths import Given, box_of, is_place
from backend.targets import Box, BoxTarget, VisionTask, votes_of

TASKS: tuple[VisionTask, ...] = ("classification", "detection")
IMAGE_FOLDERS = ("images", "JPEGImages")
ANNOTATION_FOLDERS = ("annotations", "Annotations")
EDGES = ("xmin", "ymin", "xmax", "ymax")


def fits(path: Path) -> bool:
    """Whether there are images and, in a folder beside them, XML files."""
    annotations = _folder(path, ANNOTATION_FOLDERS)
    return (
        _folder(path, IMAGE_FOLDERS) is not None
        and annotations is not None
        and next(annotations.rglob("*.xml"), None) is not None
    )


def read(path: Path, task: VisionTask) -> Contents:
    """The images that have an XML file."""
    images, annotations = _folder(path, IMAGE_FOLDERS), _folder(path, ANNOTATION_FOLDERS)
    assert images is not None  # it fits
    assert annotations is not None
    files = list(image_files(images))
    test = test_names(path, {file.stem for file in files})
    examples, broken = [], []
    for file in files:
        image = ImageFile(file, file.relative_to(path).as_posix())
        xml = (annotations / file.relative_to(images)).with_suffix(".xml")
        try:
            size, boxes = _boxes(xml, xml.relative_to(path).as_posix(), image)
        except DatasetError as reason:
            broken.append(str(reason))
            continue
        truth = Given(boxes) if task == "detection" else None
        examples.append(Example(image, votes_of(boxes), test=file.stem in test, truth=truth, size=size))
    found = {label for example in examples for label in example.labels}
    return Contents(examples, _ordered(path, found), multi_label=True, broken=broken)


def _folder(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)


def _ordered(path: Path, found: set[str]) -> list[str]:
    listed = listed_classes(path) or []
    return [*listed, *in_natural_order(found.difference(listed))]


def _boxes(path: Path, name: str, image: ImageFile) -> tuple[tuple[int, int], BoxTarget]:
    """Width and height of the image, and its objects."""
    root = _parsed(path, name)
    size = _size(root) or image.size()
    boxes = [_box(each, name, size) for each in root.iterfind("object")]
    return size, BoxTarget(tuple(box for box in boxes if box is not None))


def _parsed(path: Path, name: str) -> Element:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{name} is larger than {MAX_BYTES:,} bytes: make it smaller.")
        root: Element = defusedxml.ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except FileNotFoundError:
        raise DatasetError(f"{name} is missing: add it, or remove its image.") from None
    except DefusedXmlException:
        raise DatasetError(f"{name} has a DOCTYPE or an entity: remove it.") from None
    except (ParseError, ValueError, LookupError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{name} is not well-formed XML ({error}): correct it.") from None
    return root


def _size(root: Element) -> tuple[int, int] | None:
    """Width and height, where the file tells; some tell zeros."""
    try:
        width, height = (int(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(each: Element, name: str, size: tuple[int, int]) -> Box | None:
    """The part of it within the image; None: there is none, or it has no area.

    Places are whole pixels, the first one 1.
    """
    label = each.findtext("name", "").strip()
    try:
        left, top, right, bottom = (float(each.findtext(f"bndbox/{edge}", "")) for edge in EDGES)
    except ValueError:
        left = top = right = bottom = float("nan")
    if not label or not all(map(is_place, (left, top, right, bottom))):
        raise DatasetError(
            f"{name} has an object without a <name>, or without a <bndbox> of {', '.join(EDGES)}: correct it."
        )
    if left >= right or top >= bottom:
        return None
    return box_of(label, (left - 1, top - 1, right, bottom), size)
