"""The embedding map: a place in the plane for each embedded image, such that what looks alike lies together.

Some images, the landmarks, are laid out by t-SNE; each other image is put among the landmarks that it resembles
most. So a map of any size costs its number of images times the landmarks', in blocks, and an image that is new finds
its place without moving the others.

A map is kept as an embedding of three dimensions: x, y, and whether the image is a landmark. Its rows are those of
the embeddings that it shows, in their order, so that the images without a place are the rows beyond.
"""

import logging
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from backend.deployment import Deployment
from backend.loop.audit import shuffled
from backend.loop.rounds import latest_round
from backend.store.embeddings import DamagedEmbeddings
from backend.store.leases import HeldLease, lease
from strategies.distances import BLOCK, Space, on_device, squared_distances

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

LANDMARKS = 3_000  # laid out in some 20 s by one core
FEWEST = 10  # of fewer images there is no map
OUTGROWN = (
    4  # with so many times more images than landmarks, and fewer landmarks than LANDMARKS, it is made anew
)
RESEMBLED = 5  # landmarks among which another image is put
SHARPNESS = 8  # the higher, the more the nearest of them counts
PERPLEXITY = 30.0

EXTENT = 0.95  # of the way from the middle to the edge, where the outermost landmarks are

SUFFIX = "@map-"  # between the embedder's name and the number of landmarks


def current_map(deployment: Deployment, project_id: int) -> str | None:
    """The name under which the map of a project is kept; an earlier embedder's serves until there is a new one."""
    ours = _embedder(deployment, project_id) + SUFFIX
    maps = [name for name in deployment.embeddings.versions_of(project_id) if SUFFIX in name]
    return max(maps, key=lambda name: (name.startswith(ours), _landmarks_of(name)), default=None)


def read_map(deployment: Deployment, project_id: int, name: str) -> tuple[Ids, Vectors]:
    """Task ids (n,), ascending, and their places (n, 2) in [-1, 1]. Raises DamagedEmbeddings."""
    ids, rows = deployment.embeddings.read(project_id, name)
    return ids, rows[:, :2]


def map_outdated(deployment: Deployment, project_id: int) -> bool:
    """Whether images have been embedded that have no place yet; costs next to nothing."""
    embedder = _embedder(deployment, project_id)
    try:
        images = deployment.embeddings.rows(project_id, embedder) if embedder else 0
    except DamagedEmbeddings:  # the next round computes them anew
        return False
    return images >= FEWEST and images != _images_on(deployment, project_id, embedder)


def update_map(deployment: Deployment, project_id: int) -> None:
    """Bring the map up to date; one worker at a time does it for a project.

    Raises DamagedEmbeddings and leases.LeaseLost.
    """
    with lease(deployment.database, f"map:{project_id}") as held:
        if held is None or not map_outdated(deployment, project_id):
            return
        embedder, name = _embedder(deployment, project_id), current_map(deployment, project_id)
        placed = _images_on(deployment, project_id, embedder)
        images = deployment.embeddings.rows(project_id, embedder)
        landmarks = _landmarks_of(name) if name and placed else 0
        if name and placed < images and (landmarks >= LANDMARKS or images < OUTGROWN * landmarks):
            try:
                _place_new(deployment, project_id, embedder, name, held)
                return
            except DamagedEmbeddings as error:
                log.warning("the map is made anew: %s", error)
        _make(deployment, project_id, embedder, held)


def lay_out(vectors: Vectors) -> Vectors:
    """Places (n, 2) in [-1, 1] of n landmarks, by t-SNE; the same for the same vectors."""
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    if (spread := float(vectors.std())) == 0:  # t-SNE cannot tell them apart either
        return np.zeros((len(vectors), 2), np.float32)
    from sklearn.manifold import TSNE  # takes seconds, which the server need not wait for

    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors / spread)
    places -= (places.max(axis=0) + places.min(axis=0)) / 2
    return np.asarray(EXTENT * places / max(np.abs(places).max(), 1e-9), np.float32)


def place(vectors: Vectors, landmarks: Vectors, places: Vectors) -> Vectors:
    """Places (n, 2) of images among landmarks (m, dimensions) whose own `places` are known.

    An image's is the mean of those of the nearest landmarks, weighted by closeness; on a landmark it is the landmark's.
    """
    space, targets = Space(landmarks), on_device(places)
    known = space.rows(space.points)
    found = np.empty((len(vectors), 2), np.float32)
    for start in range(0, len(vectors), BLOCK):
        rows = space.rows(on_device(vectors[start : start + BLOCK]))
        squares, which = squared_distances(rows, known).topk(min(RESEMBLED, len(landmarks)), largest=False)
        nearest = squares[:, :1].clamp_(min=torch.finfo(torch.float32).tiny)
        weights = (nearest / squares.clamp_(min=torch.finfo(torch.float32).tiny)) ** (SHARPNESS / 2)
        weights /= weights.sum(dim=1, keepdim=True)
        found[start : start + BLOCK] = (targets[which] * weights.float()[:, :, None]).sum(dim=1).cpu().numpy()
    return found


def _make(deployment: Deployment, project_id: int, embedder: str, held: HeldLease) -> None:
    """Make a map, where there are enough images; the old one serves until it is whole."""
    store = deployment.embeddings
    ids = store.task_ids(project_id, embedder)
    chosen = np.sort(shuffled(project_id, ids)[:LANDMARKS])
    if len(chosen) < FEWEST:
        return
    log.info("map: laying out %d landmarks of %d images", len(chosen), len(ids))
    _, vectors = store.read(project_id, embedder, chosen.tolist())
    rows = list(_placed(store.blocks(project_id, embedder), chosen, vectors, lay_out(vectors)))
    held.check()
    old = [name for name in store.versions_of(project_id) if SUFFIX in name]
    name = f"{embedder}{SUFFIX}{len(chosen)}"
    if name in old:
        store.delete(project_id, name)
    store.append(project_id, name, np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows]))
    for other in old:
        if other != name:
            store.delete(project_id, other)


def _place_new(deployment: Deployment, project_id: int, embedder: str, name: str, held: HeldLease) -> None:
    """Find the places of the images that were embedded since."""
    store = deployment.embeddings
    ids, rows = store.read(project_id, name)
    known = store.rows(project_id, name)
    changed = [
        again for again, _ in store.blocks(project_id, embedder, known)
    ]  # embedded anew, or new altogether
    mapped = (rows[:, 2] == 1) & ~np.isin(ids, np.concatenate(changed))
    chosen, vectors = store.read(project_id, embedder, ids[mapped].tolist())
    places = rows[mapped, :2][np.isin(ids[mapped], chosen)]
    new = _placed(store.blocks(project_id, embedder, known), chosen, vectors, places)
    for new_ids, found in new:
        held.check()
        store.append(project_id, name, new_ids, found)


def _placed(
    blocks: Iterable[tuple[Ids, Vectors]], landmarks: Ids, vectors: Vectors, places: Vectors
) -> Iterable[tuple[Ids, Vectors]]:
    """The rows of a map for blocks of embeddings. landmarks: ids, ascending."""
    for ids, block in blocks:
        rows = np.zeros((len(ids), 3), np.float32)
        rows[:, :2] = place(block, vectors, places)
        at = np.searchsorted(landmarks, ids).clip(max=len(landmarks) - 1)
        own = landmarks[at] == ids
        rows[own, :2], rows[own, 2] = places[at[own]], 1
        yield ids, rows


def _embedder(deployment: Deployment, project_id: int) -> str:
    """The name of the embedder that the newest round works with; empty where there is none yet."""
    latest = latest_round(deployment, project_id)
    return str(latest.facts.get("embedder") or "") if latest else ""


def _images_on(deployment: Deployment, project_id: int, embedder: str) -> int:
    """How many rows of an embedder's have a place on its map; none where the map is damaged."""
    name = current_map(deployment, project_id)
    if name is None or not name.startswith(embedder + SUFFIX):
        return 0
    try:
        return deployment.embeddings.rows(project_id, name)
    except DamagedEmbeddings as error:
        log.warning("the map is made anew: %s", error)
        return 0


def _landmarks_of(name: str) -> int:
    return int(name.rpartition(SUFFIX)[2])
