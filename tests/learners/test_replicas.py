"""A machine with several GPUs is stood in for by its CPU, several times: the same code, on other devices."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from backend.learners import replicas
from backend.learners.detection import Detector, evaluate_boxes, fit_detector
from backend.learners.detection import detector as detecting
from backend.learners.detection import training as detection_training
from backend.learners.kinds import DetectorKind
from backend.learners.replicas import Replicas
from backend.learners.segmentation import evaluate_masks, fit_segmenter
from backend.learners.segmentation import training as segmentation_training
from tests.learners.drawn_scenes import CLASSES, labeled, scene
from tests.learners.test_detection import CLASSES as WITH_BOXES
from tests.learners.test_detection import SCENES as SCENES_WITH_BOXES
from tests.learners.test_detection import scene as scene_with_boxes

Example = tuple[Tensor, Tensor]


def devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(replicas, "training_devices", lambda: [torch.device("cpu")] * count)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))


def loss(network: nn.Module, part: Sequence[Example]) -> Tensor:
    images, wanted = (torch.stack(parts) for parts in zip(*part, strict=True))
    return functional.mse_loss(network(images), wanted)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_several_devices_learn_what_one_does(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    batches = [
        [(torch.randn(3, 8, 8, generator=generator), torch.randn(2, generator=generator)) for _ in range(5)]
        for _ in range(4)
    ]
    learned = []
    for number in (1, count):
        devices(monkeypatch, number)
        trained = network().train()
        optimiser = torch.optim.AdamW(trained.parameters(), 0.01)
        with Replicas(trained) as several:
            for batch in batches:  # an odd number of examples, and fewer than there are devices
                several.backward(loss, batch)
                optimiser.step()
        learned.append(torch.cat([parameter.flatten() for parameter in trained.parameters()]))
    torch.testing.assert_close(*learned, rtol=1e-5, atol=1e-6)
    assert not torch.equal(learned[0], torch.cat([one.flatten() for one in network().parameters()]))


def test_a_failure_on_one_device_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(network: nn.Module, part: Sequence[int]) -> Tensor:
        if 3 in part:
            raise torch.OutOfMemoryError("the second GPU is full")
        return next(network.parameters()).sum()

    devices(monkeypatch, 2)
    with Replicas(network()) as several, pytest.raises(torch.OutOfMemoryError, match="the second GPU"):
        several.backward(fails, [2, 3])


def test_masks_are_learned_on_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, 3)  # of a batch of 8, they see 3, 3 and 2
    monkeypatch.setattr(segmentation_training, "LEAST_VIEWS", 800)
    monkeypatch.setattr(segmentation_training, "EPOCHS", 1)
    images = labeled([scene(seed) for seed in range(30)])
    segmenter = fit_segmenter(images, CLASSES, members=4, seed=0, backbone="scratch")
    others = [scene(seed) for seed in range(100, 120)]
    answers = segmenter.answers([segmenter.prepare(image) for image, _ in others])
    assert evaluate_masks(answers, [target for _, target in others], CLASSES).score > 0.5


def fitted(kind: DetectorKind) -> Detector:
    return fit_detector(SCENES_WITH_BOXES, WITH_BOXES, members=2, seed=0, backbone="scratch", detector=kind)


def test_boxes_are_learned_on_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, 2)
    monkeypatch.setattr(detection_training, "VIEWS", 160)
    monkeypatch.setattr(detection_training, "VIEWS_AN_IMAGE", 0)
    detector = fitted("one-stage")
    others = [scene_with_boxes(seed) for seed in range(100, 120)]
    answers = detector.answers([detector.prepare(image) for image, _ in others])
    assert evaluate_boxes(answers, [target for _, target in others], WITH_BOXES).score > 0.5


def test_two_stages_are_trained_on_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, 2)
    monkeypatch.setattr(detection_training, "VIEWS", 8)
    monkeypatch.setattr(detection_training, "VIEWS_AN_IMAGE", 0)
    trained = dict(fitted("two-stage")._network.named_parameters())
    monkeypatch.setattr(detecting, "train", lambda *_: None)
    for name, untrained in fitted("two-stage")._network.named_parameters():
        assert trained[name].isfinite().all() and not torch.equal(trained[name], untrained), name
