from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from backend.learners.embedding import BackboneUnavailable
from backend.learners.segmentation import MaskAnswers, Segmenter, evaluate_masks, fit_segmenter, training
from backend.learners.segmentation.network import new_network
from backend.learners.segmentation.segmenter import FILE, working_size
from backend.learners.weights import DamagedWeights, load_weights, save_weights
from backend.targets import MaskTarget, Polygon
from strategies import Pool, strategy
from tests.learners.drawn_scenes import CLASSES, bitmap, labeled, scene
from tests.learners.threads_seen import threads_seen


def looked_at(segmenter: Segmenter, images: list[Image.Image]) -> MaskAnswers:
    return segmenter.answers([segmenter.prepare(image) for image in images])


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training too short to learn from."""
    monkeypatch.setattr(training, "LEAST_VIEWS", 8)
    monkeypatch.setattr(training, "EPOCHS", 1)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    scenes = labeled([scene(seed) for seed in range(30)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LEAST_VIEWS", 800)
        patch.setattr(training, "EPOCHS", 1)
        return fit_segmenter(scenes, CLASSES, members=6, seed=0, backbone="scratch")


def test_thirty_drawn_scenes_are_enough(segmenter: Segmenter) -> None:
    scenes = [scene(seed) for seed in range(100, 120)]
    answers = looked_at(segmenter, [image for image, _ in scenes])
    result = evaluate_masks(answers, [target for _, target in scenes], CLASSES)
    assert result.score > 0.5
    assert result.interval[0] < result.score < result.interval[1]
    pool = Pool(20, multi_label=True, classes=CLASSES, **answers.pool_fields())
    there = np.array([[any(r.label == c for r in target.regions) for c in CLASSES] for _, target in scenes])
    assert pool.probabilities[there].mean() > pool.probabilities[~there].mean() + 0.3
    assert strategy("{regions: {score: {regions: bald}}}").scores(pool).min() > 0  # members disagree
    target = answers.prediction(0).target
    assert isinstance(target, MaskTarget) and (target.width, target.height) == (96, 96)


def test_answers_do_not_depend_on_the_batch(segmenter: Segmenter) -> None:
    images = [scene(1)[0], scene(2, 130, 64)[0], scene(3)[0], scene(4, 64, 130)[0], Image.new("L", (1, 1))]
    together = looked_at(segmenter, images)
    assert [(one.width, one.height) for one in together.maps] == [
        (96, 96),
        (128, 64),
        (96, 96),
        (64, 128),
        (32, 32),
    ]
    for position, image in enumerate(images):
        alone = looked_at(segmenter, [image])
        np.testing.assert_allclose(together.samples[:, position], alone.samples[:, 0], atol=2e-3)
        assert (together.label_map(position) == alone.label_map(0)).mean() > 0.999
        assert alone.prediction(0).size == image.size


def test_as_many_threads_look_as_pay(segmenter: Segmenter) -> None:
    assert threads_seen(lambda: looked_at(segmenter, [scene(0)[0]])) == {1}
    assert threads_seen(lambda: looked_at(segmenter, [scene(0)[0]] * 32)) == {4}


def test_every_image_has_as_many_cells_and_pixels(segmenter: Segmenter) -> None:
    answers = looked_at(segmenter, [scene(0)[0], Image.new("RGB", (3, 900)), Image.new("RGB", (7000, 7150))])
    assert answers.samples.shape == (6, 3, 64, 4, 4)
    assert [(one.width, one.height) for one in answers.maps] == [(96, 96), (32, 192), (192, 192)]
    np.testing.assert_allclose(answers.samples.astype(float).sum(axis=-1), 1, atol=5e-3)


def test_samples_are_where_they_say(segmenter: Segmenter) -> None:
    image = Image.fromarray(
        np.random.default_rng(0).integers(90, 160, (96, 96, 1), np.uint8).repeat(3, axis=2)
    )
    image.paste((200, 60, 60), (12, 12, 36, 36))
    samples = (
        looked_at(segmenter, [image]).samples[:, 0].astype(float).mean(axis=0)
    )  # (cells, pixels, values)
    some = 1 - samples[:, :, 0].mean(axis=1).reshape(8, 8)
    assert some[1:3, 1:3].mean() > some[4:, 4:].mean() + 0.3
    assert some[1:3, 1:3].mean() > some[5:7, 1:3].mean() + 0.3
    assert some[1:3, 1:3].mean() > some[1:3, 5:7].mean() + 0.3


def test_the_original_size_is_kept(segmenter: Segmenter) -> None:
    image = scene(0)[0]
    image.info["original_size"] = (960, 961)
    prepared = segmenter.prepare(image)
    assert prepared.original_size == (960, 961)
    assert prepared.pixels.shape == (96, 96, 3)
    target = segmenter.answers([prepared]).prediction(0).target
    assert isinstance(target, MaskTarget) and (target.width, target.height) == (960, 961)


@pytest.mark.parametrize(
    ("size", "working"),
    [((240, 180), (192, 128)), ((1, 1), (32, 32)), ((8000, 8000), (192, 192)), ((10, 9000), (32, 192))],
)
def test_working_sizes(size: tuple[int, int], working: tuple[int, int]) -> None:
    assert working_size(*size, 192) == working


def test_saved_and_loaded(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.save(tmp_path)
    loaded = Segmenter.load(tmp_path)
    images = [scene(5)[0], scene(6, 64, 40)[0]]
    assert loaded.classes == CLASSES
    one, other = looked_at(segmenter, images), looked_at(loaded, images)
    assert (one.samples == other.samples).all() and one.maps == other.maps
    (tmp_path / FILE).write_bytes(b"torn")
    with pytest.raises(DamagedWeights):
        Segmenter.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Segmenter.load(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "name", ["hf-hub:someone/resnet50", "no_such_model", "coco", ["scratch"], None], ids=str
)
def test_an_encoder_that_timm_would_look_for_elsewhere(
    segmenter: Segmenter, tmp_path: Path, name: object
) -> None:
    segmenter.save(tmp_path)
    arrays, description = load_weights(tmp_path / FILE)
    save_weights(tmp_path / FILE, arrays, description | {"encoder": name})
    with pytest.raises(DamagedWeights, match="made anew"):
        Segmenter.load(tmp_path)


@pytest.mark.usefixtures("briefly")
def test_the_same_seed_gives_the_same_segmenter_and_leaves_the_global_generator_alone() -> None:
    scenes = labeled([scene(seed, 64, 64) for seed in range(3)])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    shares: list[float] = []
    one = fit_segmenter(scenes, CLASSES, members=2, seed=1, backbone="scratch", on_progress=shares.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert shares == sorted(shares) and shares[-1] == 1
    torch.manual_seed(6)
    again = fit_segmenter(scenes, CLASSES, members=2, seed=1, backbone="scratch")
    other = fit_segmenter(scenes, CLASSES, members=2, seed=2, backbone="scratch")
    samples = [looked_at(made, [scene(9)[0]]).samples for made in (one, again, other)]
    assert (samples[0] == samples[1]).all()
    assert (samples[0] != samples[2]).any()


@pytest.mark.usefixtures("briefly")
def test_background_is_something_to_learn_unless_hardly_a_pixel_is_of_it() -> None:
    image = scene(0)[0]
    left = np.zeros((96, 96), bool)
    left[:, :48] = True
    painted = MaskTarget((bitmap("disc", left), bitmap("square", ~left)), 96, 96)
    slit = left.copy()
    slit[:50, 47] = False  # half a percent was missed
    nearly = MaskTarget((bitmap("disc", slit), bitmap("square", ~left)), 96, 96)
    for target, values in ((painted, 3), (nearly, 3), (MaskTarget((bitmap("disc", left),), 96, 96), 4)):
        made = fit_segmenter(labeled([(image, target)] * 2), CLASSES, members=2, seed=0, backbone="scratch")
        answers = looked_at(made, [image])
        assert answers.samples.shape[-1] == values
        assert answers.background == (values == 4)
        assert answers.pool_fields()["committee"].shape == (2, 1, 3)
        said = np.unique(answers.label_map(0))
        assert said.min() >= (0 if answers.background else 1) and said.max() <= 3


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize(
    "targets",
    [
        [MaskTarget((), 0, 0)],  # nothing is drawn
        [MaskTarget((bitmap("disc", np.zeros((9, 9), bool)),), 9, 9)],  # an empty mask
        [MaskTarget((Polygon("disc", ((0.1, 0.1), (0.5, 0.5))),), 9, 9)],
        [MaskTarget((Polygon("gone", ((0.1, 0.1), (0.5, 0.5), (0.1, 0.5))),), 9, 9)],
        [
            MaskTarget((bitmap(None, np.ones((9, 9), bool)),), 9, 9),
            MaskTarget((), 0, 0),
        ],  # all of one is ignored
    ],
)
def test_odd_labels(targets: list[MaskTarget]) -> None:
    images = [scene(0)[0], scene(1, 60, 140)[0]]
    made = fit_segmenter(
        labeled(list(zip(images, targets, strict=False))), CLASSES, members=2, seed=0, backbone="scratch"
    )
    assert np.isfinite(looked_at(made, images).samples.astype(float)).all()


def test_what_cannot_be_learned_from() -> None:
    ignored = MaskTarget((bitmap(None, np.ones((9, 9), bool)),), 9, 9)
    for scenes, classes, message in (
        ([], CLASSES, "at least one class and one image"),
        ([scene(0)], (), "at least one class and one image"),
        ([(scene(0)[0], ignored)], CLASSES, "every pixel of every image is to be ignored"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_segmenter(labeled(scenes), classes, members=2, seed=0)


def cached(name: str, hub: Path) -> dict[str, torch.Tensor]:
    """Random weights in the hub's cache, as if they had been published under that name."""
    torch.manual_seed(0)
    weights = dict(timm.create_model(name, pretrained=False).state_dict())
    weights["bn1.bias" if "bn1.bias" in weights else "norm.bias"] += 0.01
    repository = hub / f"models--timm--{name}"
    snapshot = repository / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0")
    save_file(weights, snapshot / "model.safetensors")
    return weights


@pytest.mark.usefixtures("briefly")
def test_a_pretrained_encoder_starts_with_its_own_weights(tmp_path: Path) -> None:
    name = "test_resnet.r160_in1k"
    weights = cached(name, tmp_path / "hub")
    network = new_network(name, 3)
    encoder = network.encoder.model.state_dict()
    assert all(torch.equal(encoder[key], weights[key]) for key in encoder)
    assert network.encoder_name == name
    np.testing.assert_allclose(network.mean[:, 0, 0], timm.get_pretrained_cfg(name).mean)

    made = fit_segmenter(labeled([scene(0)]), CLASSES, members=2, seed=0, backbone=name)
    made.save(tmp_path / "made")
    images = [scene(1)[0]]
    loaded = Segmenter.load(tmp_path / "made")
    assert (looked_at(loaded, images).samples == looked_at(made, images).samples).all()


def test_backbones_that_cannot_be_had(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BackboneUnavailable, match="cannot be downloaded"):
        new_network("resnet18.a1_in1k", 3)
    with pytest.raises(BackboneUnavailable, match="choose one of"):
        new_network("no_such_model", 3)
    transformer = "test_vit.r160_in1k"
    cached(transformer, tmp_path / "hub")
    with pytest.raises(BackboneUnavailable, match="gives no pyramid of features"):
        new_network(transformer, 3)
    assert new_network("auto", 3).encoder_name == "scratch"
    assert "trained from scratch" in caplog.text
