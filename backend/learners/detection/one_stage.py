"""One-stage detection: FCOS (Tian et al., ICCV 2019), made to learn from few images.

Every place of the maps says of which class the object that it lies in is, how far its four sides are, and how central
the place is. The loss is torchvision's but for two weights: every object counts the same, however many places lie in
it, and one of a rare class counts more, by the inverse root of the class's frequency (Mahajan et al., ECCV 2018).
Without them, small and rare objects are not learnt from some dozen images at all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from backend.learners.backbones import REDUCTIONS, Pyramid
from backend.learners.coco import COCO, not_at_hand, part_of
from backend.learners.detection.network import (
    CANDIDATES,
    DROPPED,
    Candidates,
    Network,
    distinct,
    draw_members,
    last_layer,
)

# Of each tower of the head. In torchvision there are four, which cost much more than a small backbone.
CONVOLUTIONS, COCO_CONVOLUTIONS = 2, 4
LAST_LAYER = "cls_logits"  # it alone knows the classes
# Where the sides are before anything is learnt, in steps of the map. Objects are dealt out to the maps so that most are
# some steps away. It is 0 in torchvision, where half of the places have no gradient: that takes longer to learn.
FIRST_DISTANCE = 2.0


class OneStage(Network):
    """frequencies: (classes,) how many objects of each class there are to learn from."""

    members: Tensor

    def __init__(self, pyramid: Pyramid, frequencies: Tensor, members: int) -> None:
        super().__init__()
        classes, width = len(frequencies), pyramid.out_channels
        self.pyramid = pyramid
        strides = tuple((reduction,) for reduction in REDUCTIONS)
        anchors = AnchorGenerator(strides, ((1.0,),) * len(strides))
        no_backbone = nn.Identity()  # it is given maps, not images
        no_backbone.out_channels = width  # type: ignore[assignment]
        head = _Head(width, frequencies, COCO_CONVOLUTIONS if pyramid.name == COCO else CONVOLUTIONS)
        self.fcos = FCOS(no_backbone, classes, anchor_generator=anchors, head=head)
        self.register_buffer("members", draw_members(members, 2, width))

    def load_head(self, weights: dict[str, Tensor]) -> None:
        """Take over what torchvision's detector knows of objects of any class; the pyramid must be "coco".

        Raises BackboneUnavailable where the weights are not those of such a detector.
        """
        own = {k: v for k, v in self.fcos.head.state_dict().items() if k == "frequencies" or LAST_LAYER in k}
        try:
            self.fcos.head.load_state_dict(part_of(weights, "head.", LAST_LAYER) | own)
        except RuntimeError as error:
            raise not_at_hand(error) from error

    def pretrained(self) -> list[nn.Parameter]:
        known = super().pretrained()
        if self.pyramid.name == COCO:
            known += [one for name, one in self.fcos.head.named_parameters() if LAST_LAYER not in name]
        return known

    def loss(self, images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        maps = list(self.pyramid(images).values())
        targets = [{"boxes": b, "labels": k} for b, k in zip(boxes, labels, strict=True)]
        places = [one.shape[2] * one.shape[3] for one in maps]
        losses = self.fcos.compute_loss(targets, self.fcos.head(maps), self._anchors(images, maps), places)
        return torch.stack(list(losses.values())).sum()

    def candidates(self, maps: Sequence[Tensor], canvas: Tensor) -> Candidates:
        head = self.fcos.head
        classification, regression = head.classification_head, head.regression_head
        towers = [[tower(one) for one in maps] for tower in (classification.conv, regression.conv)]
        layers = ((0, classification.cls_logits), (1, regression.bbox_reg), (1, regression.bbox_ctrness))
        logits, sides, centrality = (_flat([layer(one) for one in towers[tower]]) for tower, layer in layers)
        scores, labels = logits.max(dim=2)
        scores = _probability(scores, centrality[..., 0])
        best = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
        image = torch.arange(len(best.indices), device=scores.device).repeat_interleave(best.indices.shape[1])
        place = best.indices.flatten()
        anchors = self._anchors(canvas[:1], maps)[0]  # the same for all
        boxes = head.box_coder.decode(sides[image, place].relu(), anchors[place])
        kept = distinct(image, boxes, best.values.flatten(), labels[image, place])
        image, place = image[kept], place[kept]

        # A channel that a member drops is dropped in all of the patch that a convolution sees.
        patches = [_patches(tower, image, place).flatten(1) for tower in towers]
        members = self.members.repeat(1, 1, 9).unbind(dim=1)
        logits, sides, centrality = (
            last_layer(
                patches[tower], layer.weight.permute(0, 2, 3, 1).flatten(1), layer.bias, members[tower]
            )
            for tower, layer in layers
        )
        boxes = head.box_coder.decode(sides.relu(), anchors[place].expand(len(self.members), -1, -1))
        return Candidates(image, _probability(logits, centrality), boxes)

    def _anchors(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        canvas = ImageList(images, [(images.shape[2], images.shape[3])] * len(images))
        anchors: list[Tensor] = self.fcos.anchor_generator(canvas, maps)
        return anchors


class _Head(FCOSHead):  # type: ignore[misc]
    frequencies: Tensor

    def __init__(self, width: int, frequencies: Tensor, convolutions: int) -> None:
        super().__init__(width, 1, len(frequencies), convolutions)
        self.register_buffer("frequencies", frequencies.float())
        for tower in (self.classification_head.conv, self.regression_head.conv):
            for layer in tower:
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            tower.append(nn.Dropout2d(DROPPED))
        nn.init.constant_(self.regression_head.bbox_reg.bias, FIRST_DISTANCE)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """As torchvision's, of the same arguments, with the two weights. matched_idxs: of each place, or -1."""
        matched = torch.stack(matched_idxs)
        image, place = torch.nonzero(matched >= 0, as_tuple=True)
        counts = torch.tensor([len(target["labels"]) for target in targets], device=matched.device)
        thing = (counts.cumsum(0) - counts)[image] + matched[image, place]
        boxes = torch.cat([target["boxes"] for target in targets])[thing]
        labels = torch.cat([target["labels"] for target in targets])[thing]
        anchor = torch.stack(anchors)[image, place]
        weights = self._weights(thing, labels)

        logits = head_outputs["cls_logits"]
        goal = torch.zeros_like(logits)
        goal[image, place, labels] = 1
        focal = sigmoid_focal_loss(logits, goal)
        found = self.box_coder.decode(head_outputs["bbox_regression"][image, place], anchor)
        sides = self.box_coder.encode(anchor, boxes)
        across, down = sides[:, [0, 2]], sides[:, [1, 3]]
        central = across.amin(1) / across.amax(1) * (down.amin(1) / down.amax(1))
        centrality = functional.binary_cross_entropy_with_logits(
            head_outputs["bbox_ctrness"][image, place, 0], central.clamp(min=0).sqrt(), reduction="none"
        )
        places = max(1, len(place))
        return {
            "classification": ((focal * (1 - goal)).sum() + (focal[image, place, labels] * weights).sum())
            / places,
            "bbox_regression": (generalized_box_iou_loss(found, boxes) * weights).sum() / places,
            "bbox_ctrness": (centrality * weights).sum() / places,
        }

    def _weights(self, thing: Tensor, labels: Tensor) -> Tensor:
        """(places,) how much each place in an object counts, 1 on average. thing: the object; labels: its class."""
        weights = self.frequencies.clamp(min=1).rsqrt()[labels] / torch.bincount(thing)[thing]
        return weights * (len(weights) / weights.sum())


def _probability(logits: Tensor, centrality: Tensor) -> Tensor:
    """How likely an object is there, as FCOS scores it: little at places off its centre, whose boxes are poor."""
    return (logits.sigmoid() * centrality.sigmoid()).sqrt()


def _flat(maps: Sequence[Tensor]) -> Tensor:
    """(n, places, channels) of maps (n, channels, height, width)."""
    return torch.cat([one.flatten(2).transpose(1, 2) for one in maps], dim=1)


def _patches(maps: Sequence[Tensor], images: Tensor, places: Tensor) -> Tensor:
    """(k, 3, 3, channels), what a convolution sees at these places of all maps, counted one map after the other."""
    patches = maps[0].new_empty(len(places), 3, 3, maps[0].shape[1])
    around = torch.arange(3, device=places.device)
    for one in maps:
        height, width = one.shape[2:]
        here = torch.nonzero((places >= 0) & (places < height * width))[:, 0]
        place = places[here, None, None]
        rows, columns = place // width + around[:, None], place % width + around
        padded = functional.pad(one.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        patches[here] = padded[images[here, None, None], rows, columns]
        places = places - height * width
    return patches
