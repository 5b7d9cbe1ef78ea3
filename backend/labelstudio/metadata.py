"""The metadata of a task that images can be balanced by: weather, camera, hour."""

from collections.abc import Mapping
from typing import Any

LONGEST = 100  # characters; longer values are texts, not categories
ADDRESSES = ("/", "http://", "https://", "s3://", "gs://", "azure-blob://", "data:")


def metadata(data: Mapping[str, Any], meta: Mapping[str, Any], image_key: str) -> dict[str, str]:
    """The plain values in a task's data and meta, by their keys; the data's win. The image and other files are none."""
    found: dict[str, str] = {}
    for key, value in {**meta, **data}.items():
        if key == image_key or isinstance(value, float) or not isinstance(value, str | int):
            continue
        text = str(value).strip()
        if 0 < len(text) <= LONGEST and not text.startswith(ADDRESSES):
            found[key] = text
    return found
