"""What torchvision's detector has learnt from COCO's 118,000 photographs of 80 kinds of things.

The detector is FCOS on a ResNet-50 (`torchvision.models.detection.fcos_resnet50_fpn`). Its weights are published as a
pickle, and nothing is ever unpickled here: whoever wants them converts them once, and they are looked for where
torchvision keeps its own.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backend.learners.embedding import BackboneUnavailable

COCO = "coco"
FILE = "fcos_resnet50_fpn_coco.safetensors"
CONVERSION = (
    'python -c "import torch, torchvision, safetensors.torch; '
    "m = torchvision.models.detection.fcos_resnet50_fpn(weights='COCO_V1'); "
    f"safetensors.torch.save_file(m.state_dict(), torch.hub.get_dir() + '/checkpoints/{FILE}')\""
)


def coco_file() -> Path:
    """Where the weights are looked for; `TORCH_HOME` moves the folder."""
    return Path(torch.hub.get_dir(), "checkpoints", FILE)


def coco_weights() -> dict[str, Tensor]:
    """The weights, by torchvision's names. Raises BackboneUnavailable."""
    try:
        weights: dict[str, Tensor] = load_file(coco_file())
    except (OSError, SafetensorError) as error:
        raise not_at_hand(error) from error
    return weights


def not_at_hand(reason: Exception) -> BackboneUnavailable:
    """What to raise where the file is not there, or not what it should be."""
    return BackboneUnavailable(
        f"The weights of a detector that has learnt from COCO cannot be read from {coco_file()} ({reason}). "
        f"Make the file on a machine where torchvision may download them: {CONVERSION}"
    )


def part_of(weights: dict[str, Tensor], prefix: str, without: str) -> dict[str, Tensor]:
    """Those whose names begin so, without the prefix; not those with `without` in them."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix) and without not in name
    }
