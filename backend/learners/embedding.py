"""One vector for an image, from a frozen backbone.

`load_embedder` looks for a pretrained timm backbone in the hub's cache, then on the hub; "auto" falls back to an
embedding learnt from the project's own images. Only safetensors are read.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import huggingface_hub
import numpy as np
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backend.learners.pixels import squares
from backend.learners.self_supervised import SelfSupervisedEmbedder
from backend.learners.threads import threads_for
from backend.learners.weights import DamagedWeights

log = logging.getLogger(__name__)

AUTO = "auto"
SELF_SUPERVISED = "self-supervised"
SEPARATOR = "+"  # between the names of several embedders

GPU_BACKBONE = "vit_small_patch14_dinov2.lvd142m"
# Of 16 small timm networks measured with random weights at 224 pixels on one core: 173 images a second and, as
# published, 73.8 % on ImageNet. LCNet 1.0 does 166 (72.1 %), RegNetX-200MF 131 (68.8 %), ConvNeXt-Atto 60
# (75.7 %), ResNet-18 28 (71.5 %). The small self-supervised ones (ConvNeXt V2, DINOv3) are not freely licensed.
CPU_BACKBONE = "mobilenetv4_conv_small.e2400_r224_in1k"

LARGEST_SIZE = 224  # DINOv2's own 518 pixels are five times the patches to compute
WEIGHTS_FILE = "model.safetensors"
HUB_SECONDS = 3.0  # for the hub's first answer; without it, the hub is taken to be out of reach


class BackboneUnavailable(Exception):
    """The backbone asked for cannot be had; the message says why and what to do."""


class Embedder(Protocol):
    """Images in, vectors out."""

    @property
    def name(self) -> str:
        """The identity of the weights: vectors of different names must not be compared."""

    @property
    def dimension(self) -> int: ...

    @property
    def size(self) -> int:
        """Pixels that the shorter side of an image should at least have."""

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(images, dimension), each row of length 1."""


def load_embedder(name: str, directory: Path, sample: Callable[[], Sequence[Image.Image]]) -> Embedder:
    """The embedder called `name`: "auto", the name of a timm model, "self-supervised", or several joined by "+".

    A self-supervised embedder is kept in `directory`. Where there is none yet, it is trained on the images of
    `sample()`, some hundred to 2,000 drawn from the pool. Raises BackboneUnavailable for a named model that
    cannot be had and where there is no image to train on.
    """
    if SEPARATOR in name:
        return JoinedEmbedder([load_embedder(part, directory, sample) for part in name.split(SEPARATOR)])
    if name == SELF_SUPERVISED:
        return _self_supervised(directory, sample)
    if name != AUTO:
        return TimmEmbedder(name)
    try:
        return TimmEmbedder(default_backbone())
    except BackboneUnavailable as reason:
        log.warning("%s Until then, images are embedded by a network trained on themselves.", reason)
        return _self_supervised(directory, sample)


def _self_supervised(directory: Path, sample: Callable[[], Sequence[Image.Image]]) -> SelfSupervisedEmbedder:
    try:
        return SelfSupervisedEmbedder.load(directory)
    except FileNotFoundError:
        pass
    except DamagedWeights as reason:
        log.warning("Training the embedder anew: %s", reason)
    images = sample()
    if not images:
        raise BackboneUnavailable(
            "There is no image to train an embedder on: import images, or make those there readable."
        )
    embedder = SelfSupervisedEmbedder.train(images)
    embedder.save(directory)
    return embedder


class JoinedEmbedder:
    """Several embedders side by side: squared distances are the mean of theirs."""

    def __init__(self, parts: Sequence[Embedder]) -> None:
        self.parts = tuple(parts)
        self.name = SEPARATOR.join(part.name for part in parts)
        self.dimension = sum(part.dimension for part in parts)
        self.size = max(part.size for part in parts)

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(images, dimension), each row of length 1. An embedder that is there twice computes once."""
        distinct = {part.name: part for part in self.parts}
        vectors = {name: part.embed(images) for name, part in distinct.items()}
        joined: NDArray[np.float32] = np.concatenate([vectors[part.name] for part in self.parts], axis=1)
        joined /= np.float32(len(self.parts) ** 0.5)
        return joined


class TimmEmbedder:
    """A pretrained timm backbone, with its own normalisation, on the GPU where there is one."""

    def __init__(self, name: str) -> None:
        import timm  # takes seconds, which only those processes spend that need it

        self.name, weights = pretrained_weights(name, f'"{SELF_SUPERVISED}" or "{AUTO}"')
        config = timm.get_pretrained_cfg(self.name)
        self.size: int = min(config.input_size[-1], LARGEST_SIZE)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": weights},
            num_classes=0,
            img_size=self.size if config.fixed_input_size else None,
        )
        self._model.eval().to(self._device, memory_format=torch.channels_last)
        self._mean = torch.tensor(config.mean, device=self._device)[:, None, None]
        self._std = torch.tensor(config.std, device=self._device)[:, None, None]
        self._resampling = Image.Resampling[config.interpolation.upper()]
        self.dimension = int(self.embed([Image.new("RGB", (8, 8))]).shape[1])

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(images, dimension), each row of length 1."""
        pixels = squares(images, self.size, self._resampling).to(self._device)
        with torch.inference_mode(), threads_for(len(images) * self.size**2):
            features = self._model((pixels - self._mean) / self._std)
            return torch.nn.functional.normalize(features, dim=1).cpu().numpy()


def pretrained_weights(name: str, others: str = f'"{AUTO}"') -> tuple[str, dict[str, Tensor]]:
    """The full name of a timm model, its pretraining included, and its weights as timm publishes them.

    others: what there is to choose beside timm's models. Raises BackboneUnavailable.
    """
    full_name, repository = _published(name, others)
    path = _cached(repository) or _download(full_name, repository)
    try:
        return full_name, load_file(path)
    except SafetensorError as error:
        raise BackboneUnavailable(
            f'The weights of "{full_name}" are damaged ({error}): delete {path}.'
        ) from error


def weights_at_hand(name: str) -> bool:
    """Whether the weights of a timm model are in the hub's cache; if not, the hub has them, and answers.

    Raises BackboneUnavailable where they are neither here nor to be had.
    """
    full_name, repository = _published(name, f'"{AUTO}"')
    if _cached(repository) is not None:
        return True
    _ask_hub(full_name, repository)
    return False


def default_backbone() -> str:
    """The timm model that "auto" embeds images with, where its weights can be had."""
    return GPU_BACKBONE if torch.cuda.is_available() else CPU_BACKBONE


def _published(name: str, others: str) -> tuple[str, str]:
    """The full name of a timm model, its pretraining included, and the hub's repository that holds its weights."""
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
    if config is None or config.hf_hub_id is None:
        raise BackboneUnavailable(
            f'timm has no pretrained model "{name}": choose one of timm.list_pretrained(), {others}.'
        )
    full_name = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    return full_name, config.hf_hub_id


def _cached(repository: str) -> str | None:
    """The path of a repository's weights in the hub's cache, if they are there."""
    try:
        return huggingface_hub.hf_hub_download(repository, WEIGHTS_FILE, local_files_only=True)
    except LocalEntryNotFoundError:
        return None


def _ask_hub(name: str, repository: str) -> None:
    """Ask the hub for a model's weights, without downloading them. Raises BackboneUnavailable."""
    try:
        huggingface_hub.get_hf_file_metadata(
            huggingface_hub.hf_hub_url(repository, WEIGHTS_FILE), timeout=HUB_SECONDS
        )
    except Exception as error:  # the hub's client lets through whatever its HTTP library of the day raises
        raise _out_of_reach(name, error) from error


def _download(name: str, repository: str) -> str:
    """The path of the weights in the hub's cache, where they are downloaded to. Raises BackboneUnavailable."""
    _ask_hub(name, repository)  # `hf_hub_download` alone retries for half a minute before it gives up
    try:
        return huggingface_hub.hf_hub_download(repository, WEIGHTS_FILE, etag_timeout=HUB_SECONDS)
    except Exception as error:
        raise _out_of_reach(name, error) from error


def _out_of_reach(name: str, error: Exception) -> BackboneUnavailable:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return BackboneUnavailable(
        f'The weights of "{name}" are not in the hub\'s cache and cannot be downloaded ({reason}). Let this '
        f"machine reach {huggingface_hub.constants.ENDPOINT}, or copy the cache (HF_HOME) from one that can."
    )
