"""Detectors, on scenes of coloured shapes."""

from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torchvision.models.detection import FCOS, fcos_resnet50_fpn

from backend.learners import backbones
from backend.learners.coco import CONVERSION, coco_file, coco_weights
from backend.learners.detection import BoxAnswers, Detector, evaluate_boxes, fit_detector, network, training
from backend.learners.detection.detector import FILE
from backend.learners.detection.one_stage import OneStage
from backend.learners.embedding import BackboneUnavailable
from backend.learners.kinds import DetectorKind
from backend.learners.learner import LabeledImages
from backend.learners.weights import DamagedWeights, load_weights, save_weights
from backend.targets import Box, BoxTarget
from strategies import Pool, strategy
from tests.learners.threads_seen import threads_seen

CLASSES = ("disc", "square")
COLOURS = ((200, 60, 60), (70, 90, 220))


def scene(seed: int, width: int = 96, height: int = 96) -> tuple[Image.Image, BoxTarget]:
    """One to four shapes in front of grey noise; some touch the border."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(90, 160, (height, width, 1), np.uint8).repeat(3, axis=2))
    draw, boxes, centres = ImageDraw.Draw(image), [], []
    for _ in range(rng.integers(1, 5)):
        radius = rng.uniform(8, 16)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if any(abs(x - a) + abs(y - b) < 30 for a, b in centres):
            continue
        centres.append((x, y))
        kind = int(rng.integers(2))
        colour = tuple(int(value) for value in np.clip(COLOURS[kind] + rng.normal(0, 20, 3), 0, 255))
        corners = (x - radius, y - radius, x + radius, y + radius)
        (draw.rectangle if CLASSES[kind] == "square" else draw.ellipse)(corners, colour)
        left, top, right, bottom = np.clip(corners, 0, (width, height) * 2) / ((width, height) * 2)
        boxes.append(Box(CLASSES[kind], *map(float, (left, top, right, bottom))))
    return image, BoxTarget(tuple(boxes))


def labeled(scenes: list[tuple[Image.Image, BoxTarget]]) -> LabeledImages:
    return LabeledImages(lambda position: scenes[position][0], [target for _, target in scenes])


SCENES = labeled([scene(seed) for seed in range(40)])


def looked_at(detector: Detector, images: list[Image.Image]) -> BoxAnswers:
    return detector.answers([detector.prepare(image) for image in images])


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training too short to learn from."""
    monkeypatch.setattr(training, "VIEWS", 4)
    monkeypatch.setattr(training, "VIEWS_AN_IMAGE", 0)


@pytest.fixture(scope="module")
def detector() -> Detector:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "VIEWS", 160)
        patch.setattr(training, "VIEWS_AN_IMAGE", 0)
        return fit_detector(SCENES, CLASSES, members=6, seed=0, backbone="scratch")


def test_forty_drawn_scenes_are_enough(detector: Detector) -> None:
    scenes = [scene(seed) for seed in range(100, 120)]
    answers = looked_at(detector, [image for image, _ in scenes])
    result = evaluate_boxes(answers, [target for _, target in scenes], CLASSES)
    assert result.score > 0.5
    assert all(c["score"] > 0.3 for c in result.classes)
    pool = Pool(20, multi_label=True, classes=CLASSES, **answers.pool_fields())
    there = np.array([[any(b.label == c for b in target.boxes) for c in CLASSES] for _, target in scenes])
    assert pool.probabilities[there].mean() > pool.probabilities[~there].mean() + 0.3
    for spec in ("{regions: bald}", "{regions: localisation_stability}"):
        assert strategy(spec).scores(pool).min() > 0  # members disagree
    ranking = strategy("object_diversity").rank(pool, 5, batch_size=1, seed=0)
    assert (ranking.scores[1:] > 0).all()
    # What is shown is about as much as there is.
    shown = sum(len(answers.prediction(position).confidences) for position in range(20))
    assert 0.5 < shown / sum(len(target.boxes) for _, target in scenes) < 2


def test_two_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(training, "VIEWS", 240)
    monkeypatch.setattr(training, "VIEWS_AN_IMAGE", 0)
    two = fit_detector(SCENES, CLASSES, members=3, seed=0, detector="two-stage", backbone="scratch")
    scenes = [scene(seed) for seed in range(100, 120)]
    images = [image for image, _ in scenes]
    assert evaluate_boxes(looked_at(two, images), [target for _, target in scenes], CLASSES).score > 0.5
    two.save(tmp_path)
    assert_same(looked_at(two, images[:3]), looked_at(Detector.load(tmp_path), images[:3]))


def assert_same(one: BoxAnswers, other: BoxAnswers) -> None:
    assert one.classes == other.classes
    for name in ("sizes", "owners", "places", "committee", "localisation", "embeddings"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=2e-3, err_msg=name)


def test_answers_do_not_depend_on_the_batch(detector: Detector) -> None:
    images = [scene(1)[0], scene(2, 130, 64)[0], scene(3)[0], scene(4, 64, 130)[0], Image.new("L", (1, 1))]
    together = looked_at(detector, images)
    assert_same(together, BoxAnswers.concatenate([looked_at(detector, [image]) for image in images]))
    assert len(together) == 5 and together.sizes.tolist()[1] == [130, 64]


def test_as_many_threads_look_as_pay(detector: Detector) -> None:
    assert threads_seen(lambda: looked_at(detector, [scene(0)[0]])) == {1}
    assert threads_seen(lambda: looked_at(detector, [scene(0)[0]] * 32)) == {4}


def test_saved_and_loaded(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    loaded = Detector.load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (
        loaded.classes == CLASSES and loaded.size == detector.size and loaded.threshold == detector.threshold
    )
    images = [scene(seed)[0] for seed in range(3)]
    assert_same(looked_at(detector, images), looked_at(loaded, images))


def test_what_is_not_a_detector(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Detector.load(tmp_path)
    detector.save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedWeights):
        Detector.load(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["hf-hub:someone/resnet50", "local-dir:/tmp", "resnet50.hf-hub:a/b", "no_such_model", ["coco"], None],
    ids=str,
)
def test_a_backbone_that_timm_would_look_for_elsewhere(
    detector: Detector, tmp_path: Path, name: object
) -> None:
    detector.save(tmp_path)
    arrays, description = load_weights(tmp_path / FILE)
    save_weights(tmp_path / FILE, arrays, description | {"backbone": name})
    with pytest.raises(DamagedWeights, match="train anew"):
        Detector.load(tmp_path)


def test_every_backbone_that_can_be_asked_for_is_known_again() -> None:
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name)
        full_name = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
        assert backbones.known(full_name) == full_name


def test_taken_and_joined(detector: Detector) -> None:
    answers = looked_at(detector, [scene(seed)[0] for seed in range(6)])
    order = np.array([4, 1, 1, 5])
    joined = BoxAnswers.concatenate([answers.take(np.array([i])) for i in order])
    assert_same(answers.take(order), joined)
    np.testing.assert_array_equal(answers.take(order).presence(), answers.presence()[:, order])
    nothing = answers.take(np.empty(0, np.int64))
    assert len(nothing) == 0 and nothing.presence().shape == (6, 0, 2)


def test_presence_is_the_highest_probability_in_the_image() -> None:
    committee = np.array([[[0.5, 0.25], [0.75, 0], [0.125, 0.5]]], np.float16)
    answers = BoxAnswers(
        CLASSES,
        np.full((3, 2), 10, np.int32),
        np.array([0, 0, 2]),
        np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]], np.float32),
        committee,
        np.ones(3, np.float16),
        np.ones((3, 1), np.float16),
    )
    assert answers.presence().tolist() == [[[0.75, 0.25], [0, 0], [0.125, 0.5]]]
    first = answers.prediction(0)
    assert first.target == BoxTarget((Box("disc", 0.5, 0.5, 1, 1), Box("disc", 0, 0, 0.5, 0.5)))
    assert first.confidences == [0.75, 0.5] and first.confidence == 0.625
    assert answers.prediction(1).target == BoxTarget(()) and answers.prediction(1).confidence == 1
    assert answers.prediction(2).target == BoxTarget((Box("square", 0, 0, 1, 1),))


def test_the_same_seed_gives_the_same_detector(briefly: None) -> None:
    one, same, other = (
        fit_detector(SCENES, CLASSES, members=2, seed=seed, backbone="scratch")._network.state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (120, 130, 140))


@pytest.mark.parametrize("kind", ["one-stage", "two-stage"])
@pytest.mark.parametrize(
    "scenes",
    [
        [(blank(40, 30), BoxTarget(()))] * 3,
        [(blank(1, 1), BoxTarget((Box("disc", 0, 0, 1, 1),)))],
        [(blank(3000, 4), BoxTarget((Box("disc", 0.1, 0, 0.1001, 1),)))],
        [(blank(60, 60), BoxTarget((Box("cow", 0, 0, 1, 1),)))],
        [scene(0), (blank(10, 200), BoxTarget(()))],
    ],
    ids=["all negatives", "one of a pixel", "a sliver", "a class that is gone", "of two shapes"],
)
def test_awkward_labels(
    briefly: None,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    scenes: list[tuple[Image.Image, BoxTarget]],
) -> None:
    monkeypatch.setattr(network, "LEAST_PROBABILITY", 0.0)  # else there may be no box
    made = fit_detector(labeled(scenes), CLASSES, members=2, seed=0, detector=kind, backbone="scratch")
    answers = looked_at(made, [image for image, _ in scenes])
    Pool(
        len(scenes), multi_label=True, classes=CLASSES, **answers.pool_fields()
    )  # which refuses what is not finite
    assert len(answers.places)
    for left, top, right, bottom in answers.places:
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def test_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="no label to learn from"):
        fit_detector(labeled([]), CLASSES, members=2, seed=0)
    with pytest.raises(ValueError, match="no class to find"):
        fit_detector(SCENES, (), members=2, seed=0)


def test_a_photograph_of_fifty_megapixels(detector: Detector) -> None:
    image = Image.new("RGB", (10_000, 5_000))
    image.info["original_size"] = (20_000, 10_000)
    prepared = detector.prepare(image)
    assert prepared.pixels.shape == (detector.size // 2, detector.size, 3)
    assert detector.answers([prepared]).sizes.tolist() == [[20_000, 10_000]]


def test_progress(briefly: None) -> None:
    told: list[float] = []
    fit_detector(SCENES, CLASSES, members=1, seed=0, backbone="scratch", on_progress=told.append)
    assert told == [0.5, 1.0]


def test_images_are_as_large_as_their_smallest_objects_need() -> None:
    def size(*boxes: tuple[str, float]) -> int:
        target = BoxTarget(tuple(Box(name, 0, 0, side, side) for name, side in boxes))
        return training.longest_side(labeled([(blank(500, 500), target)]), CLASSES)

    assert size(("disc", 0.06), ("square", 0.5)) == 256  # 16 / 0.06 = 267, in steps of 32
    assert size(("disc", 0.5)) == 128
    assert size(("disc", 0.001)) == (800 if torch.cuda.is_available() else 320)
    assert size(("cow", 0.05)) == size() == 128


def publish(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Random weights in the hub's cache, as if downloaded."""
    file = folder / f"{name}.safetensors"
    save_file(timm.create_model(name).state_dict(), file)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))


def test_a_pretrained_backbone(briefly: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    publish("lcnet_050", monkeypatch, tmp_path)
    made = fit_detector(SCENES, CLASSES, members=2, seed=0, backbone="lcnet_050")
    assert made._network.pyramid.name == "lcnet_050.ra2_in1k"
    made.save(tmp_path)
    assert_same(looked_at(made, [scene(0)[0]]), looked_at(Detector.load(tmp_path), [scene(0)[0]]))


@pytest.mark.parametrize(
    ("name", "message"), [("resnet1000", "no pretrained model"), ("lcnet_050", "hub's cache")]
)
def test_a_named_backbone_that_cannot_be_had(name: str, message: str) -> None:
    with pytest.raises(BackboneUnavailable, match=message):
        fit_detector(SCENES, CLASSES, members=2, seed=0, backbone=name)


def test_a_backbone_without_maps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    publish("vit_tiny_patch16_224", monkeypatch, tmp_path)
    with pytest.raises(BackboneUnavailable, match="no maps at"):
        backbones.load_pyramid("vit_tiny_patch16_224")


@pytest.fixture
def published_coco(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FCOS:
    """torchvision's detector, with random weights as if learnt from COCO, where its file is looked for."""
    torch.manual_seed(0)
    published = fcos_resnet50_fpn(weights=None, weights_backbone=None).eval()
    for layer in published.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    coco_file().parent.mkdir(parents=True)
    # FrozenBatchNorm2d, which the published one has, counts no batches.
    weights = {k: v for k, v in published.state_dict().items() if "num_batches_tracked" not in k}
    save_file(weights, coco_file())
    return published


def test_what_a_detector_has_learnt_from_coco(published_coco: FCOS) -> None:
    pyramid = backbones.load_pyramid("coco")
    network = OneStage(pyramid, torch.ones(2), members=2).eval()
    network.load_head(coco_weights())
    heads = (network.fcos.head, published_coco.head)
    images = 255 * torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = list(pyramid(images).values())
        published_maps = list(published_coco.backbone((images / 255 - pyramid.mean) / pyramid.std).values())
        found, published = (
            [
                *maps,
                *head.regression_head(maps),
                *map(head.classification_head.conv, maps),
            ]
            for head, maps in zip(heads, (maps, published_maps[: len(maps)]), strict=True)
        )
    for one, other in zip(found, published, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("kind", ["one-stage", "two-stage"])
def test_a_detector_goes_on_from_coco(
    briefly: None, published_coco: FCOS, kind: DetectorKind, tmp_path: Path
) -> None:
    made = fit_detector(SCENES, CLASSES, members=2, seed=0, detector=kind, backbone="coco")
    made.save(tmp_path / "model")
    assert_same(looked_at(made, [scene(0)[0]]), looked_at(Detector.load(tmp_path / "model"), [scene(0)[0]]))
    network = made._network
    optimiser, _ = training._optimiser(network, 10)
    new, known = ({id(p) for p in group["params"]} for group in optimiser.param_groups)
    assert new | known == {id(p) for p in network.parameters()} and not new & known
    assert {id(p) for p in network.pyramid.parameters()} <= known
    if kind == "one-stage":
        assert new == {id(p) for p in network.fcos.head.classification_head.cls_logits.parameters()}


def test_weights_from_coco_of_another_detector(published_coco: FCOS) -> None:
    without_head = {k: v for k, v in coco_weights().items() if not k.startswith("head.regression_head")}
    save_file(without_head, coco_file())
    with pytest.raises(BackboneUnavailable, match=r"Missing key.*regression_head.*python -c"):
        fit_detector(SCENES, CLASSES, members=2, seed=0, backbone="coco")


def test_on_a_gpu_auto_goes_on_from_coco(published_coco: FCOS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backbones.load_pyramid("auto").name == "coco"


def test_the_docs_tell_how_to_make_the_weights_from_coco() -> None:
    assert CONVERSION in (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()


def test_without_the_weights_from_coco(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(BackboneUnavailable, match=r"No such file.*python -c"):
        backbones.load_pyramid("coco")
    coco_file().parent.mkdir(parents=True)
    save_file({"backbone.body.conv1.weight": torch.zeros(64, 3, 7, 7)}, coco_file())
    with pytest.raises(BackboneUnavailable, match=r"Missing key.*python -c"):
        backbones.load_pyramid("coco")
    coco_file().write_bytes(b"no weights")
    with pytest.raises(BackboneUnavailable, match=r"python -c"):
        backbones.load_pyramid("coco")


def test_without_weights_auto_trains_from_scratch() -> None:
    assert backbones.load_pyramid("auto").name == "scratch"
