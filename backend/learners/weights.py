"""Trained weights on disk: one safetensors file, its header carrying the JSON that describes them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

Arrays = dict[str, NDArray[Any]]

DESCRIPTION = "description"


class DamagedWeights(Exception):
    """The file is not what `save_weights` wrote."""


def save_weights(path: Path, arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> None:
    """Write `arrays` and their JSON `description`; a reader sees the whole file or none of it."""
    content = save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {DESCRIPTION: json.dumps(description)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load_weights(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and their description. Raises FileNotFoundError and DamagedWeights."""
    try:
        with safe_open(path, "numpy") as file:
            description = json.loads((file.metadata() or {})[DESCRIPTION])
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedWeights(f"{path} is damaged: delete it and it is made anew ({error})") from error
