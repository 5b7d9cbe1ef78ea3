"""Feature pyramids for learners that say where things are: the maps of a timm backbone, brought to one width."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Any

import timm
import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from backend.learners.coco import COCO, coco_file, coco_weights, not_at_hand, part_of
from backend.learners.embedding import AUTO, CPU_BACKBONE, BackboneUnavailable, pretrained_weights

log = logging.getLogger(__name__)

SCRATCH = "scratch"
GPU_BACKBONE = "resnet50.a1_in1k"

REDUCTIONS = (8, 16, 32)  # pixels of the image for one of each map
# Small enough to learn from a few hundred views of images in half a minute of one core, and normalised in groups, so
# that it can learn from two images at a time: for the same views that is twice the steps of four.
SCRATCH_BACKBONE = "resnet10t"
SCRATCH_CHANNELS = (16, 48, 96, 128)
SCRATCH_STEM = 8
SCRATCH_WIDTH, PRETRAINED_WIDTH, COCO_WIDTH = 64, 128, 256
COCO_BACKBONE = "resnet50"
GROUP = 8  # channels that are normalised together


class Pyramid(nn.Module):
    """The maps of a backbone at `REDUCTIONS`, finest first, each of `out_channels` (Lin et al., CVPR 2017).

    name: of the backbone, from which `empty_pyramid` makes another of this shape.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        name: str,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fuse = FeaturePyramidNetwork(list(channels), width)
        self.out_channels = width
        self.name = name
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """images: (n, 3, height, width), RGB in 0..255, of sides that the last of `REDUCTIONS` divides."""
        maps = self.backbone((images - 255 * self.mean).div_(255 * self.std))
        named = OrderedDict(zip(map(str, REDUCTIONS), maps, strict=True))
        fused: OrderedDict[str, Tensor] = self.fuse(named)
        return fused

    def pretrained(self) -> list[nn.Parameter]:
        """The parameters that have learnt before."""
        if self.name == SCRATCH:
            return []
        return list(self.parameters() if self.name == COCO else self.backbone.parameters())


def load_pyramid(name: str) -> Pyramid:
    """A pyramid on the backbone called `name`: "auto", "scratch", "coco" or a timm model with pretrained weights.

    "auto" is a pretrained backbone that fits the device ("coco" on a GPU, where its weights are at hand), or scratch
    where its weights cannot be had. The weights of what is not the backbone are drawn from torch's generator, but for
    "coco", whose pyramid has learnt as a whole. Raises BackboneUnavailable.
    """
    if name == SCRATCH:
        return _scratch()
    on_gpu = torch.cuda.is_available()
    if name == COCO or (name == AUTO and on_gpu and coco_file().exists()):
        return _coco(coco_weights())
    chosen = (GPU_BACKBONE if on_gpu else CPU_BACKBONE) if name == AUTO else name
    try:
        return _pretrained(*pretrained_weights(chosen))
    except BackboneUnavailable as reason:
        if name != AUTO:
            raise
        _tell_once(f"{reason} Until then, a small network is trained from scratch.")
        return _scratch()


@cache
def _tell_once(sentence: str) -> None:
    """Log a warning that each round, or each run of a simulation, would repeat."""
    log.warning(sentence)


def empty_pyramid(name: str) -> Pyramid:
    """A pyramid on the backbone of this full name with random weights, to load others into. Raises KeyError."""
    if name == COCO:
        return _coco(None)
    return _scratch() if name == SCRATCH else _pretrained(known(name), None)


def known(name: str) -> str:
    """The full name of a timm model, as read from a file. Raises KeyError where timm has none of that name.

    timm itself would load others: "hf-hub:someone/some-model" from the network, "local-dir:/tmp" from the disk.
    """
    if not timm.is_model_pretrained(name):
        raise KeyError(name)
    return name


def _scratch() -> Pyramid:
    backbone = timm.create_model(
        SCRATCH_BACKBONE,
        features_only=True,
        out_indices=(2, 3, 4),
        norm_layer=_GroupNorm,
        channels=SCRATCH_CHANNELS,
        stem_width=SCRATCH_STEM,
    )
    channels = backbone.feature_info.channels()
    return Pyramid(backbone, channels, SCRATCH_WIDTH, (0.5,) * 3, (0.25,) * 3, SCRATCH)


def _pretrained(name: str, weights: dict[str, Tensor] | None) -> Pyramid:
    """weights: as timm publishes them; random where not given."""
    config = timm.get_pretrained_cfg(name)
    try:
        every = timm.create_model(name, features_only=True).feature_info.reduction()
        backbone = timm.create_model(
            name,
            features_only=True,
            out_indices=[every.index(reduction) for reduction in REDUCTIONS],
            pretrained=weights is not None,
            pretrained_cfg_overlay=None if weights is None else {"state_dict": weights},
        )
    except (RuntimeError, ValueError, AttributeError) as error:  # as each of timm's families has it
        raise BackboneUnavailable(
            f'"{name}" has no maps at {REDUCTIONS} pixels to find objects on ({error}): choose a convolutional '
            f'timm model, such as {CPU_BACKBONE}, or "{AUTO}".'
        ) from error
    # Statistics of two images are worse than those of the pretraining.
    frozen = freeze_batch_norm_2d(backbone)
    return Pyramid(frozen, backbone.feature_info.channels(), PRETRAINED_WIDTH, config.mean, config.std, name)


def _coco(weights: dict[str, Tensor] | None) -> Pyramid:
    """weights: those of torchvision's detector; random where not given."""
    config = timm.get_pretrained_cfg(COCO_BACKBONE)
    backbone = timm.create_model(COCO_BACKBONE, features_only=True, out_indices=(2, 3, 4))
    channels = backbone.feature_info.channels()
    pyramid = Pyramid(freeze_batch_norm_2d(backbone), channels, COCO_WIDTH, config.mean, config.std, COCO)
    if weights is not None:
        try:
            pyramid.backbone.load_state_dict(part_of(weights, "backbone.body.", "num_batches_tracked"))
            pyramid.fuse.load_state_dict(part_of(weights, "backbone.fpn.", "extra_blocks"))
        except RuntimeError as error:
            raise not_at_hand(error) from error
    return pyramid


class _GroupNorm(nn.GroupNorm):
    """As timm makes its norms: of a number of channels."""

    def __init__(self, channels: int, **factory: Any) -> None:
        super().__init__(max(1, channels // GROUP), channels, **factory)
