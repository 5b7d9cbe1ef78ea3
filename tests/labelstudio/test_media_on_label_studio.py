"""Media fetch from a real Label Studio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from backend.demo.label_studio import LabelStudioServer
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.labeling_config import read_labeling_config
from backend.labelstudio.media import MediaError, MediaFetcher, MediaUnavailable


@pytest.fixture
def fetcher(label_studio: LabelStudioServer, client: LabelStudio, tmp_path: Path) -> Iterator[MediaFetcher]:
    fetcher = MediaFetcher(label_studio.url, client.access_token, tmp_path / "cache")
    yield fetcher
    fetcher.close()


def image_sources(client: LabelStudio, project_id: int) -> dict[int, str]:
    config = read_labeling_config(client.project(project_id).label_config)
    sources = {task.id: config.image_source(task.data) for task in client.tasks(project_id)}
    return {task_id: source for task_id, source in sources.items() if source}


def test_local_files(client: LabelStudio, fetcher: MediaFetcher, make_project: Callable[..., Any]):
    project = make_project(3)
    sources = image_sources(client, project.id)
    assert len(sources) == 3
    for number, (task_id, source) in enumerate(sorted(sources.items())):
        with Image.open(project.images / f"{number:04}.png") as drawn:
            assert np.array_equal(
                np.asarray(fetcher.image(source, task_id)), np.asarray(drawn.convert("RGB"))
            )


def test_uploads(
    label_studio: LabelStudioServer,
    client: LabelStudio,
    fetcher: MediaFetcher,
    make_project: Callable[..., Any],
):
    project = make_project(0)
    file = BytesIO()
    Image.new("RGB", (30, 40), "blue").save(file, "PNG")
    uploaded = httpx.post(
        f"{label_studio.url}/api/projects/{project.id}/import",
        files={"file": ("my picture.png", file.getvalue(), "image/png")},
        headers={"Authorization": f"Bearer {client.access_token()}"},
    )
    uploaded.raise_for_status()
    ((task_id, source),) = image_sources(client, project.id).items()
    assert source.startswith("/data/upload/")
    assert fetcher.image(source, task_id).getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("/data/upload/1/gone.png", "Import the image again"),
        ("/data/local-files/?d=gone/a.png", "Add a local storage"),
        ("/data/local-files/?d=../../etc/passwd", "Add a local storage"),
        ("s3://bucket/a.png", "Add the cloud storage"),
        ("/user/login/", "in no known format"),
    ],
)
def test_what_is_not_there(
    client: LabelStudio, fetcher: MediaFetcher, make_project: Callable[..., Any], source: str, remedy: str
):
    (task_id,) = make_project(1).digits
    with pytest.raises(MediaError, match=remedy):
        fetcher.image(source, task_id)


def test_a_wrong_key_is_no_images_fault(label_studio: LabelStudioServer, tmp_path: Path):
    fetcher = MediaFetcher(label_studio.url, lambda: "wrong", tmp_path)
    with pytest.raises(MediaUnavailable, match="LABEL_STUDIO_API_KEY"):
        fetcher.image("/data/upload/1/a.png", 1)
    fetcher.close()
