"""What surrounds the processes: settings, disk, graphics card, weights of pretrained networks."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import torch
from dotenv import dotenv_values
from pydantic import ValidationError

from backend.doctor.check import Check, Finding, broken, fine, told, warning
from backend.learners.embedding import (
    AUTO,
    SELF_SUPERVISED,
    SEPARATOR,
    BackboneUnavailable,
    default_backbone,
    weights_at_hand,
)
from backend.settings import ENVIRONMENT_PREFIX, InvalidSettings, LoopSettings, Settings

AREA = "This machine"
ENV_FILE = Path(".env")
LITTLE_DISK, TOO_LITTLE_DISK = 5 << 30, 500 << 20  # bytes
DRIVER = Path("/proc/driver/nvidia/version")


def read_settings() -> tuple[Settings, list[str]]:
    """The deployment's settings, and a sentence for each that cannot be used; such a one has its default."""
    try:
        return Settings(), []
    except ValidationError as error:
        faults = {
            str(fault["loc"][0]): fault["msg"].removeprefix("Value error, ") for fault in error.errors()
        }
        problems = [f"{name.upper()} {message}" for name, message in faults.items()]
        return Settings(**{name: Settings.model_fields[name].default for name in faults}), problems
    except (OSError, UnicodeError) as error:
        return Settings(_env_file=None), [f"{ENV_FILE} cannot be read: {error}"]


def checks(settings: Settings, problems: list[str]) -> Iterator[Check]:
    """In the order in which they are worth reading."""
    yield Check(AREA, "settings", lambda: deployment_settings(settings, problems))
    yield Check(AREA, "loop settings", loop_settings)
    yield Check(AREA, "data folder", lambda: data_folder(settings.model_dir))
    yield Check(AREA, "disk", lambda: disk(settings.model_dir))
    yield Check(AREA, "graphics card", graphics_card)
    yield Check(AREA, "pretrained weights", environment_weights)


def deployment_settings(settings: Settings, problems: list[str]) -> Finding:
    """Whether each can be used. Those that could not have their defaults in `settings`."""
    if problems:
        return broken(
            f"{'; '.join(problems)}.", "Correct it in the environment or in .env; below, its default is used."
        )
    if settings.has_half_a_basic_auth:
        return broken(
            "Only one of BASIC_AUTH_USER and BASIC_AUTH_PASS is set, so the server does not start.",
            "Set both, or neither.",
        )
    read = (
        "the environment and .env"
        if ENV_FILE.exists()
        else "the environment; there is no .env in this folder"
    )
    return fine(f"Read from {read}.")


def loop_settings() -> Finding:
    """Whether the settings of the loop that the environment gives can be used."""
    named = {*os.environ, *dotenv_values(ENV_FILE)}
    given = [name for name in named if name.startswith(ENVIRONMENT_PREFIX)]
    known = {ENVIRONMENT_PREFIX + name.upper() for name in LoopSettings.model_fields}
    try:
        LoopSettings.resolve({}, {})
    except InvalidSettings as error:
        wrong = re.sub(r"^setting '(\w+)'", lambda name: ENVIRONMENT_PREFIX + name[1].upper(), str(error))
        return broken(f"{wrong.rstrip('.')}.", "Correct that variable where server and worker are started.")
    for name in sorted(set(given) - known):
        near = get_close_matches(name, known, n=1)
        return warning(
            f"{name} is no setting of the loop.", f"Did you mean {near[0]}?" if near else "Remove it."
        )
    return fine(f"{', '.join(sorted(given))} can be used." if given else "The environment sets none.")


def data_folder(folder: Path, variable: str = "MODEL_DIR") -> Finding:
    """Whether the folder that a variable names can be written to."""
    existing = (
        folder if folder.exists() else next(parent for parent in folder.absolute().parents if parent.exists())
    )
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return broken(
            f"{variable}, {folder}, cannot be written to: {error.strerror}.",
            f"Give the user of server and worker the right to write there, or set {variable} to another folder.",
        )
    return fine(
        f"{folder.absolute()} "
        + ("can be written to." if existing == folder else "will be made when needed.")
    )


def disk(folder: Path) -> Finding:
    """Whether there is room for models, embeddings and cached images."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    left = f"{free / (1 << 30):.1f} GiB are free at {folder.absolute()}."
    if free < TOO_LITTLE_DISK:
        return broken(left, "Free some space before a round fails, or set MODEL_DIR to another disk.")
    if free < LITTLE_DISK:
        return warning(left, "Cached images alone may take 10 GiB: free some space.")
    return fine(left)


def graphics_card() -> Finding:
    """Whether torch can use one, if there is one."""
    if torch.cuda.is_available():
        return fine(f"Rounds run on {torch.cuda.get_device_name()}.")
    if DRIVER.exists():
        return warning(
            "There is a graphics card, but torch cannot use it; rounds run on the processor.",
            "Install a torch made for the driver's version of CUDA, and let the container see the card.",
        )
    return fine("There is none; rounds run on the processor.")


def environment_weights() -> Finding:
    """Whether the networks that the environment's settings name can be had."""
    try:
        return weights(LoopSettings.resolve({}, {}).embedding)
    except InvalidSettings:
        return weights(AUTO)


def weights(embedding: str) -> Finding:
    """Whether the networks of an embedding can be had."""
    names = {default_backbone() if name == AUTO else name for name in embedding.split(SEPARATOR)} - {
        SELF_SUPERVISED
    }
    try:
        here = {name: weights_at_hand(name) for name in sorted(names)}
    except BackboneUnavailable as error:
        if embedding != AUTO:
            return told(error)
        happened = told(error)
        return warning(
            f"{happened.found} Images are embedded by a network trained on themselves.", happened.remedy
        )
    if not here:
        return fine("Images are embedded by a network trained on themselves; nothing is downloaded.")
    return fine(
        "; ".join(
            f"{name} is {'here' if one else 'downloaded when first used'}" for name, one in here.items()
        )
        + "."
    )
