"""Which parts of a face it is recognised by: what is lost where one is covered (Zeiler & Fergus, ECCV 2014)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torchvision.transforms.v2 import functional

from backend.learners.faces.recogniser import FaceRecogniser
from backend.learners.learner import Embed
from backend.learners.pixels import squares

GRID = 7  # places a side
PATCH = 2 / 7  # side of the patch, as a share of the image's: it overlaps half of each neighbour's
GREY = (128, 128, 128)
LARGEST = 256  # pixels a side that images are shrunk to before anything is covered
MEAN_SIDE = 96  # pixels of the longer side of a mean face


def occlusion_map(
    recogniser: FaceRecogniser, name: str, images: Sequence[Image.Image], embed: Embed
) -> NDArray[np.float64]:
    """(GRID, GRID): the fall of the margin of a person's faces where a patch is grey, mean over the images.

    The margin is the similarity to the right person less that to the likest other. Raises ValueError where the
    recogniser does not know the person, or nobody else.
    """
    if name not in recogniser.classes or len(recogniser.classes) < 2:
        raise ValueError(f"{name!r} is not one of two or more people known")
    column = recogniser.classes.index(name)
    falls = np.zeros(GRID * GRID)
    for image in images:
        whole = image.convert("RGB")
        whole.thumbnail((LARGEST, LARGEST))
        similarities = recogniser.answers(embed([whole, *_covered(whole)])).similarities.astype(np.float64)
        margins = similarities[:, column] - np.delete(similarities, column, axis=1).max(axis=1)
        falls += margins[0] - margins[1:]
    return falls.reshape(GRID, GRID) / len(images)


def mean_face(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """(height, width, 3), 0 to 1, of the images' mean aspect ratio."""
    mean = functional.to_pil_image(squares(images, MEAN_SIDE).mean(dim=0))
    sides = np.mean([image.size for image in images], axis=0)
    width, height = np.ceil(MEAN_SIDE * sides / sides.max()).astype(int)
    return np.asarray(mean.resize((int(width), int(height))), np.float32) / np.float32(255)


def _covered(image: Image.Image) -> list[Image.Image]:
    """The image with a patch around each place of the grid, row by row."""
    width, height = image.size
    copies = []
    for row in range(GRID):
        for column in range(GRID):
            x, y = (column + 0.5) / GRID * width, (row + 0.5) / GRID * height
            half_width, half_height = PATCH / 2 * width, PATCH / 2 * height
            copy = image.copy()
            ImageDraw.Draw(copy).rectangle(
                (x - half_width, y - half_height, x + half_width, y + half_height), fill=GREY
            )
            copies.append(copy)
    return copies
