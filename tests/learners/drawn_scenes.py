"""Scenes of shapes on a background, with a mask for each shape."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as run_lengths

from backend.learners.learner import LabeledImages
from backend.targets import Bitmap, MaskTarget, Polygon

CLASSES = ("disc", "square", "triangle")
COLOURS = ((200, 60, 60), (60, 200, 60), (70, 90, 220))


def bitmap(label: str | None, mask: np.ndarray) -> Bitmap:
    counts = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return Bitmap(label, counts.decode(), mask.shape[1], mask.shape[0])


def scene(seed: int, width: int = 96, height: int = 96) -> tuple[Image.Image, MaskTarget]:
    """Up to three shapes of about the colours of their classes, in front of grey noise; the later cover the earlier."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(90, 160, (height, width, 1), np.uint8).repeat(3, axis=2))
    regions: list[Polygon | Bitmap] = []
    for shape in rng.permutation(len(CLASSES))[: rng.integers(1, 4)]:
        radius = rng.uniform(0.12, 0.25) * min(width, height)
        x, y = rng.uniform(radius, (width - radius, height - radius))
        colour = tuple(int(value) for value in np.clip(COLOURS[shape] + rng.normal(0, 20, 3), 0, 255))
        mask = Image.new("1", (width, height))
        for target, fill in ((image, colour), (mask, 1)):
            draw = ImageDraw.Draw(target)
            if CLASSES[shape] == "disc":
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill)
            elif CLASSES[shape] == "square":
                draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill)
            else:
                draw.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill)
        regions.append(bitmap(CLASSES[shape], np.asarray(mask)))
    return image, MaskTarget(tuple(regions), width, height)


def labeled(scenes: Sequence[tuple[Image.Image, MaskTarget]]) -> LabeledImages:
    return LabeledImages(lambda position: scenes[position][0], [target for _, target in scenes])
