"""A project to try the loop on: scikit-learn's 1,797 handwritten digits, as images in Label Studio."""

from collections.abc import Sequence
from pathlib import Path

import label_studio_sdk
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

IMAGE_SIZE = 160  # pixels; the originals are 8 × 8, too small to see
MARGIN = 1  # original pixels of white around a digit, which would touch the edges
CLASSES = tuple(str(digit) for digit in range(10))
LABEL_CONFIG = f"""<View>
  <Image name="image" value="$image" maxWidth="320px"/>
  <Choices name="digit" toName="image" choice="single-radio" showInLine="true">
    {"".join(f'<Choice value="{name}" hotkey="{name}"/>' for name in CLASSES)}
  </Choices>
</View>"""


def write_digits(folder: Path, count: int | None = None) -> tuple[list[str], list[str]]:
    """Write the first `count` digits as PNG files; returns their names, and the digits they show."""
    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"digit-{index:04}.png" for index in range(len(digits.images))][:count]
    for name, pixels in zip(names, digits.images, strict=False):
        if not (folder / name).exists():
            image = Image.fromarray((255 - np.pad(pixels, MARGIN) * (255 / 16)).astype(np.uint8))
            image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC).save(folder / name)
    return names, [str(target) for target in digits.target[:count]]


def create_project(
    url: str, api_key: str, title: str, label_config: str, folder: Path, files: Sequence[str]
) -> int:
    """Create a project in Label Studio with one task for each of the files in a folder it may serve.

    The folder lies directly under the root of Label Studio's local-files serving. Returns the project's number.
    """
    client = label_studio_sdk.LabelStudio(base_url=url, api_key=api_key)
    project = client.projects.create(title=title, label_config=label_config)
    client.import_storage.local.create(
        project=project.id, path=str(folder.resolve()), title="images", use_blob_urls=True
    )
    tasks = [{"image": f"/data/local-files/?d={folder.name}/{name}"} for name in files]
    client.projects.import_tasks(id=project.id, request=tasks)
    return int(project.id)
