"""Images with known objects, regions and people, and the answers that an annotator who knows them gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

WIDTH, HEIGHT = 96, 72
DIGITS = ("0", "1")
SIDE = 28  # of a digit in a scene
PEOPLE = ("Ada", "Grace", "Emmy", "Mary")
FACE = 64
GROUP_WIDTH, GROUP_HEIGHT = 160, 120  # of an image of several people


@dataclass(frozen=True)
class Thing:
    """A digit in a scene. left, top: of its box, in pixels. mask: (HEIGHT, WIDTH) where it is."""

    label: str
    left: int
    top: int
    right: int
    bottom: int
    mask: np.ndarray


def scene(number: int) -> tuple[Image.Image, list[Thing]]:
    """Handwritten zeros and ones on a dark, noisy ground: none, one or two."""
    rng = np.random.default_rng(number)
    digits = load_digits()
    ground = rng.integers(0, 60, (HEIGHT, WIDTH), np.uint8)
    things: list[Thing] = []
    for place in rng.permutation(2)[: rng.choice(3, p=(0.1, 0.5, 0.4))]:
        label = str(rng.choice(DIGITS))
        drawn = digits.images[rng.choice(np.flatnonzero(digits.target == int(label)))]
        large = Image.fromarray((drawn * 15.9375).astype(np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        ink = np.asarray(large) > 100
        left = int(rng.integers(0, WIDTH // 2 - SIDE)) + place * WIDTH // 2
        top = int(rng.integers(0, HEIGHT - SIDE))
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : top + SIDE, left : left + SIDE] = ink
        ground[mask] = rng.integers(200, 256)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        things.append(Thing(label, columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, mask))
    return Image.fromarray(ground).convert("RGB"), things


def boxes_result(things: Sequence[Thing], control: str) -> list[dict[str, Any]]:
    """As Label Studio stores rectangles: in percent."""
    return [
        {
            "from_name": control,
            "to_name": "image",
            "type": "rectanglelabels",
            "original_width": WIDTH,
            "original_height": HEIGHT,
            "image_rotation": 0,
            "value": {
                "x": 100 * thing.left / WIDTH,
                "y": 100 * thing.top / HEIGHT,
                "width": 100 * (thing.right - thing.left) / WIDTH,
                "height": 100 * (thing.bottom - thing.top) / HEIGHT,
                "rotation": 0,
                "rectanglelabels": [thing.label],
            },
        }
        for thing in things
    ]


def brush_result(things: Sequence[Thing], control: str) -> list[dict[str, Any]]:
    """As Label Studio stores what is painted: its own run lengths."""
    return [
        {
            "from_name": control,
            "to_name": "image",
            "type": "brushlabels",
            "original_width": WIDTH,
            "original_height": HEIGHT,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": brush.mask2rle(thing.mask.astype(np.uint8) * 255),
                "brushlabels": [thing.label],
            },
        }
        for thing in things
    ]


def face(person: int, number: int) -> Image.Image:
    """A drawn face: each person has their own proportions and colours, each image its own light, place, mouth."""
    who, now = np.random.default_rng([7, person]), np.random.default_rng([person, number])
    skin, eyes, hair = (tuple(int(c) for c in who.integers(60, 230, 3)) for _ in range(3))
    width, height = who.uniform(0.28, 0.42), who.uniform(0.36, 0.46)
    apart, eye = who.uniform(0.1, 0.2), who.uniform(0.03, 0.07)
    mouth = who.uniform(0.08, 0.2)
    image = Image.new("RGB", (FACE, FACE), tuple(int(c) for c in now.integers(90, 130, 3)))
    draw = ImageDraw.Draw(image)
    x, y = FACE * (0.5 + now.uniform(-0.04, 0.04, 2))

    def oval(dx: float, dy: float, rx: float, ry: float, colour: tuple[int, ...]) -> None:
        at = x + FACE * dx, y + FACE * dy
        draw.ellipse((at[0] - FACE * rx, at[1] - FACE * ry, at[0] + FACE * rx, at[1] + FACE * ry), colour)

    oval(0, -0.08, width * 1.1, height, hair)
    oval(0, 0.03, width, height * 0.9, skin)
    for side in (-1, 1):
        oval(side * apart, -0.08, eye, eye * now.uniform(0.6, 1.1), eyes)
    oval(0, 0.2, mouth, 0.02 + 0.03 * now.random(), (120, 30, 30))
    light = np.asarray(image, np.float32) * now.uniform(0.85, 1.15) + now.normal(0, 6, (FACE, FACE, 3))
    return Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))


def group(number: int) -> tuple[Image.Image, list[tuple[str, int, int]]]:
    """One or two people before a dark ground: the image, and of each the name and the left and top of the face."""
    rng = np.random.default_rng([11, number])
    image = Image.new("RGB", (GROUP_WIDTH, GROUP_HEIGHT), (20, 20, 30))
    people = []
    for half in rng.permutation(2)[: rng.integers(1, 3)]:
        person = int(rng.integers(len(PEOPLE)))
        left = int(rng.integers(0, GROUP_WIDTH // 2 - FACE)) + half * GROUP_WIDTH // 2
        top = int(rng.integers(0, GROUP_HEIGHT - FACE))
        image.paste(face(person, number), (left, top))
        people.append((PEOPLE[person], left, top))
    return image, people


def group_result(people: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """As Label Studio stores who is in which rectangle: two regions with the same id."""
    result = []
    for place, (name, left, top) in enumerate(people):
        where = {
            "x": 100 * left / GROUP_WIDTH,
            "y": 100 * top / GROUP_HEIGHT,
            "width": 100 * FACE / GROUP_WIDTH,
            "height": 100 * FACE / GROUP_HEIGHT,
            "rotation": 0,
        }
        both = {
            "id": f"face{place}",
            "to_name": "image",
            "original_width": GROUP_WIDTH,
            "original_height": GROUP_HEIGHT,
            "image_rotation": 0,
        }
        box = {
            "from_name": "faces",
            "type": "rectanglelabels",
            "value": where | {"rectanglelabels": ["Face"]},
        }
        who = {"from_name": "who", "type": "textarea", "value": where | {"text": [name]}}
        result += [both | box, both | who]
    return result
