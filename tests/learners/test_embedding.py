"""A hub on this machine's own loopback stands in for the real one; the weights it serves are random."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save

from backend.learners.embedding import CPU_BACKBONE, GPU_BACKBONE, BackboneUnavailable, load_embedder
from backend.learners.self_supervised import FILE
from tests.learners.threads_seen import threads_seen

SMALL = "lcnet_050.ra2_in1k"
TRANSFORMER = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def noise(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (40, 30, 3), np.uint8)) for _ in range(count)]


def no_sample() -> list[Image.Image]:
    raise AssertionError("a pretrained backbone needs no sample")


def point_hub_at(address: str, monkeypatch) -> None:
    """As HF_ENDPOINT does, which the hub's client reads when it is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], monkeypatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    point_hub_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def hub_of(weights: dict[str, bytes], requests: list[str]) -> type[BaseHTTPRequestHandler]:
    """Serves `weights` by repository, and notes each request."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            requests.append(f"{self.command} {self.path}")
            repository = self.path.removeprefix("/").partition("/resolve/")[0]
            content = weights.get(repository, b"")
            self.send_response(200 if content else 404)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{repository.replace("/", "-")}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    return Hub


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def unreachable(monkeypatch):
    """An address of this machine at which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        point_hub_at(address, monkeypatch)
        yield address


@pytest.mark.parametrize("name", [SMALL, TRANSFORMER])
def test_a_backbone_is_downloaded_once_and_then_read_from_the_cache(name, tmp_path, monkeypatch):
    torch.manual_seed(0)
    published = timm.create_model(name, pretrained=False)
    requests: list[str] = []
    weights = {f"timm/{name}": save(dict(published.state_dict()))}
    with serving(hub_of(weights, requests), monkeypatch):
        embedder = load_embedder(name, tmp_path, no_sample)
    assert f"GET /timm/{name}/resolve/main/model.safetensors" in requests
    assert not any(request.endswith((".bin", ".pth")) for request in requests)  # pickles

    assert embedder.name == name
    images = [Image.new("L", (300, 200), 90), *noise(2)]
    vectors = embedder.embed(images)
    assert vectors.shape == (3, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)

    # What timm itself computes for an image that is already of the right size.
    image = noise(1)[0].resize((embedder.size, embedder.size))
    config = timm.data.resolve_model_data_config(published)
    transform = timm.data.create_transform(**config | {"crop_pct": 1.0}, is_training=False)
    published.reset_classifier(0)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(published.eval()(transform(image)[None]), dim=1)
    np.testing.assert_allclose(embedder.embed([image]), expected.numpy(), atol=1e-4)
    assert threads_seen(lambda: embedder.embed([image])) == {1}  # more do not pay

    # Nothing listens at the hub's address any more.
    again = load_embedder(name, tmp_path, no_sample)
    assert np.array_equal(again.embed(images), vectors)


def test_a_name_without_a_tag_gets_the_one_timm_means(tmp_path, monkeypatch):
    weights = {f"timm/{SMALL}": save(dict(timm.create_model(SMALL, pretrained=False).state_dict()))}
    with serving(hub_of(weights, []), monkeypatch):
        assert load_embedder(SMALL.partition(".")[0], tmp_path, no_sample).name == SMALL


def test_large_default_sizes_are_brought_down(tmp_path, monkeypatch):
    published = timm.create_model(GPU_BACKBONE, pretrained=False)
    weights = {f"timm/{GPU_BACKBONE}": save(dict(published.state_dict()))}
    with serving(hub_of(weights, []), monkeypatch):
        embedder = load_embedder(GPU_BACKBONE, tmp_path, no_sample)
    assert (embedder.size, embedder.dimension) == (224, 384)


def test_a_hub_out_of_reach_is_given_up_at_once(unreachable, tmp_path, caplog):
    with pytest.raises(BackboneUnavailable, match=rf"(?s){SMALL}.*{unreachable}.*HF_HOME"):
        load_embedder(SMALL, tmp_path, no_sample)
    assert "Retry" not in caplog.text


def test_a_hub_that_never_answers_is_asked_once(tmp_path, monkeypatch):
    requests: list[str] = []

    class Silent(BaseHTTPRequestHandler):
        def do_HEAD(self):
            requests.append(self.path)
            self.rfile.read(1)  # until the client goes away

        def log_message(self, *args):
            pass

    monkeypatch.setattr("backend.learners.embedding.HUB_SECONDS", 0.2)
    with serving(Silent, monkeypatch), pytest.raises(BackboneUnavailable, match="cannot be downloaded"):
        load_embedder(SMALL, tmp_path, no_sample)
    assert len(requests) == 1


def test_offline_mode_asks_nobody(tmp_path, monkeypatch):
    requests: list[str] = []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with serving(hub_of({}, requests), monkeypatch), pytest.raises(BackboneUnavailable, match="offline"):
        load_embedder(SMALL, tmp_path, no_sample)
    assert requests == []


@pytest.mark.parametrize("name", ["resnet1000", "resnet18.no_such_weights", "../etc/passwd", "lcnet_035"])
def test_a_name_without_weights_is_refused_with_the_choices(name, tmp_path, unreachable):
    with pytest.raises(BackboneUnavailable, match="choose one"):
        load_embedder(name, tmp_path, no_sample)


def test_auto_falls_back_to_self_supervision_and_keeps_it(unreachable, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="backend"):
        embedder = load_embedder("auto", tmp_path, lambda: noise(6))
    assert embedder.name.startswith("self-supervised-")
    [record] = caplog.records
    backbone = GPU_BACKBONE if torch.cuda.is_available() else CPU_BACKBONE
    assert backbone in record.getMessage() and unreachable in record.getMessage()
    assert load_embedder("self-supervised", tmp_path, no_sample).name == embedder.name

    (tmp_path / FILE).write_bytes(b"torn")
    assert load_embedder("self-supervised", tmp_path, lambda: noise(6)).name == embedder.name


def test_a_pool_without_images_cannot_be_learnt_from(tmp_path):
    with pytest.raises(BackboneUnavailable, match="import images"):
        load_embedder("self-supervised", tmp_path, list)
    assert list(tmp_path.iterdir()) == []


def test_several_embedders_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(256, size=(32, 32), dtype=np.uint8)) for _ in range(12)]
    joined = load_embedder("self-supervised+self-supervised", tmp_path, lambda: images)
    alone = load_embedder("self-supervised", tmp_path, list)
    assert joined.name == f"{alone.name}+{alone.name}"
    assert joined.dimension == 2 * alone.dimension
    vectors, single = joined.embed(images), alone.embed(images)
    np.testing.assert_allclose(vectors, np.concatenate([single, single], axis=1) / 2**0.5, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
