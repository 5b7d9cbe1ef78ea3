"""A feature pyramid network for segmentation (Kirillov et al., CVPR 2019, "Panoptic feature pyramid networks").

Its encoder is a timm backbone: a pretrained one where its weights can be had, else a small residual network that a few
dozen images and a minute of one core are enough for. Of those tried from scratch on street scenes, plain convolutions
learn in half the time of the depthwise ones that mobile networks are made of.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from backend.learners.backbones import GPU_BACKBONE, SCRATCH
from backend.learners.embedding import AUTO, CPU_BACKBONE, BackboneUnavailable, pretrained_weights

log = logging.getLogger(__name__)

SCRATCH_SHAPE = {"channels": (32, 48, 64, 96), "stem_width": 16}  # of a ResNet-10-T
CHANNELS = 64  # of the pyramid and of the features that the last layer is given
DROPPED = 0.2  # share of those features, in training and in each member
STRIDE = 32  # what the sides of an image must be multiples of


class SegmentationNetwork(nn.Module):
    """Logits at a quarter of the image's resolution.

    encoder: "scratch" or the full name of a timm model. values: how many there are to choose from at each pixel.
    weights: the encoder's, as timm publishes them; random where not given. Raises BackboneUnavailable for an encoder
    that has no maps at the strides 4 to 32.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: str, values: int, weights: dict[str, Tensor] | None = None) -> None:
        import segmentation_models_pytorch  # takes seconds, as timm does
        import timm

        super().__init__()
        self.encoder_name = encoder
        options: dict[str, Any] = {"encoder_weights": None}
        if encoder == SCRATCH:
            name, options = "resnet10t", options | SCRATCH_SHAPE
            mean, deviation = (0.5,) * 3, (0.25,) * 3
        else:
            name, config = encoder, timm.get_pretrained_cfg(encoder)
            mean, deviation = config.mean, config.std
            if weights is not None:
                options = {"encoder_weights": True, "pretrained_cfg_overlay": {"state_dict": weights}}
        try:
            parts = segmentation_models_pytorch.FPN(
                f"tu-{name}",
                decoder_pyramid_channels=CHANNELS,
                decoder_segmentation_channels=CHANNELS,
                decoder_dropout=DROPPED,
                classes=values,
                **options,
            )
        except (
            ValueError,
            RuntimeError,
            TypeError,
            AttributeError,
        ) as error:  # as each of timm's families has it
            raise BackboneUnavailable(
                f'"{encoder}" gives no pyramid of features to segment by ({error}): choose a convolutional '
                f'or hierarchical timm model, such as {CPU_BACKBONE}, or "{AUTO}".'
            ) from error
        self.encoder, self.decoder, self.last = parts.encoder, parts.decoder, parts.segmentation_head[0]
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)

    def normalised(self, pixels: Tensor) -> Tensor:
        """What `features` takes, from RGB in 0..1, (images, 3, height, width)."""
        return (pixels - self.mean) / self.deviation

    def features(self, images: Tensor) -> Tensor:
        """(images, channels, height / 4, width / 4), the input of the last layer; in training, some are dropped."""
        features: Tensor = self.decoder(self.encoder(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (images, values, height / 4, width / 4)."""
        logits: Tensor = self.last(self.features(images))
        return logits


def new_network(backbone: str, values: int) -> SegmentationNetwork:
    """A network to train. backbone: "auto", "scratch" or the name of a timm model with weights.

    "auto" is "scratch" where the backbone that suits this machine cannot be had. Raises BackboneUnavailable for a named
    one that cannot.
    """
    if backbone == SCRATCH:
        return SegmentationNetwork(SCRATCH, values)
    chosen = (GPU_BACKBONE if torch.cuda.is_available() else CPU_BACKBONE) if backbone == AUTO else backbone
    try:
        name, weights = pretrained_weights(chosen)
    except BackboneUnavailable as reason:
        if backbone != AUTO:
            raise
        log.warning("%s Until then, segmenters are trained from scratch.", reason)
        return SegmentationNetwork(SCRATCH, values)
    return SegmentationNetwork(name, values, weights)
