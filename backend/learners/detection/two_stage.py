"""Two-stage detection, Faster R-CNN (Ren et al., NeurIPS 2015): where something may be, then what is there."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from backend.learners.backbones import REDUCTIONS, Pyramid
from backend.learners.detection.network import (
    CANDIDATES,
    DROPPED,
    Candidates,
    Network,
    draw_members,
    last_layer,
)

SIDES = ((16, 32), (48, 64), (96, 192))  # pixels of the anchors of each map
RATIOS = (0.5, 1.0, 2.0)  # of their height to their width
POOLED = 5  # a side of the grid of features in a region
HIDDEN = 256  # units of the two layers before the last


class TwoStage(Network):
    """Regions are proposed once; what is in them and where its sides are, each member judges."""

    members: Tensor

    def __init__(self, pyramid: Pyramid, frequencies: Tensor, members: int) -> None:
        super().__init__()
        width = pyramid.out_channels
        self.pyramid = pyramid
        parts = FasterRCNN(
            pyramid,
            rpn_anchor_generator=AnchorGenerator(SIDES, (RATIOS,) * len(SIDES)),
            rpn_pre_nms_top_n_train=CANDIDATES,
            rpn_pre_nms_top_n_test=CANDIDATES,
            rpn_post_nms_top_n_train=CANDIDATES,
            rpn_post_nms_top_n_test=CANDIDATES // 3,
            box_batch_size_per_image=64,
            box_roi_pool=MultiScaleRoIAlign([str(reduction) for reduction in REDUCTIONS], POOLED, 2),
            box_head=nn.Sequential(TwoMLPHead(width * POOLED**2, HIDDEN), nn.Dropout(DROPPED)),
            box_predictor=FastRCNNPredictor(HIDDEN, 1 + len(frequencies)),
        )
        self.proposals, self.regions = parts.rpn, parts.roi_heads
        self.register_buffer("members", draw_members(members, HIDDEN))

    def loss(self, images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        maps = self.pyramid(images)
        canvas = _canvas(images)
        targets = [
            {"boxes": b, "labels": k + 1} for b, k in zip(boxes, labels, strict=True)
        ]  # 0 is background
        proposals, losses = self.proposals(canvas, maps, targets)
        _, more = self.regions(maps, proposals, canvas.image_sizes, targets)
        return torch.stack([*losses.values(), *more.values()]).sum()

    def candidates(self, maps: Sequence[Tensor], canvas: Tensor) -> Candidates:
        images = _canvas(canvas)
        named = {str(reduction): one for reduction, one in zip(REDUCTIONS, maps, strict=True)}
        proposals, _ = self.proposals(images, named)
        features = self.regions.box_head(self.regions.box_roi_pool(named, proposals, images.image_sizes))
        last = self.regions.box_predictor
        logits = last_layer(features, last.cls_score.weight, last.cls_score.bias, self.members)
        sides = last_layer(features, last.bbox_pred.weight, last.bbox_pred.bias, self.members)
        probabilities = logits.softmax(dim=2)[..., 1:]
        # Each class has sides of its own: those of the class that the members together find likeliest.
        label = 1 + probabilities.mean(dim=0).argmax(dim=1)
        sides = sides.view(*sides.shape[:2], -1, 4)[:, torch.arange(len(label), device=label.device), label]
        coder = self.regions.box_coder
        places = torch.cat(proposals)
        boxes = torch.stack([coder.decode_single(member, places) for member in sides])
        owners = [torch.full((len(one),), i, device=places.device) for i, one in enumerate(proposals)]
        return Candidates(torch.cat(owners), probabilities, boxes)


def _canvas(images: Tensor) -> ImageList:
    return ImageList(images, [(images.shape[2], images.shape[3])] * len(images))
