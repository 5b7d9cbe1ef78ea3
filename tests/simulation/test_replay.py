"""A run keeps to the loop's rules: what a strategy may see, and when."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from backend.learners.class_answers import ClassAnswers
from backend.loop.pool import AVAILABLE
from backend.simulation.dataset import Dataset
from backend.simulation.embeddings import Embeddings
from backend.simulation.hard_cases import HardCases
from backend.simulation.material import Material
from backend.simulation.replay import Protocol, Replay, Round, full_data_score
from backend.simulation.scenario import Scenario, make_scenario
from backend.targets import ChoiceTarget
from strategies import Need, Pool, Ranking, strategy

COUNT = 400
CLASSES = tuple(map(str, range(10)))
CAMERAS = np.array(["left", "right"])[np.arange(COUNT) % 2]


@dataclass
class Watching:
    """Ranks at random, and keeps the pools that it was shown."""

    needs: frozenset[Need]
    name: str = "watching"
    pools: list[Pool] = field(default_factory=list)

    def rank(self, pool: Pool, size: int, *, batch_size: int, seed: int) -> Ranking:
        assert size == batch_size
        self.pools.append(pool)
        return strategy("random").rank(pool, size, batch_size=batch_size, seed=seed)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    """The pixels of some digits in place of embeddings: that is enough for a learner."""
    path = tmp_path_factory.mktemp("simulation") / "vectors"
    vectors = (load_digits().data[:COUNT] / 16).astype(np.float32)
    path.write_bytes(vectors.tobytes())
    return Embeddings(path, "pixels", vectors.shape[1], COUNT, np.arange(COUNT), {})


def make(multi_label: bool = False, audit_share: float = 0.1, hard: HardCases | None = None) -> Scenario:
    digits = load_digits().target[:COUNT]
    targets = np.eye(10, dtype=np.float32)[digits]
    if multi_label:
        targets = np.stack([digits > 4, digits % 2 == 1], axis=1).astype(np.float32)
    classes = ("large", "odd") if multi_label else CLASSES
    dataset = Dataset(
        "digits",
        classes,
        multi_label,
        targets,
        lambda i: Image.new("L", (8, 8)),
        {"camera": CAMERAS},
        None,
        "",
    )
    return make_scenario(dataset, hard or HardCases(), audit_share, seed=3)


def protocol(**values: object) -> Protocol:
    usual = {
        "task": "classification",
        "classes": CLASSES,
        "multiple": False,
        "batch": 15,
        "budget": 70,
        "learner": "linear",
        "members": 2,
        "audit_share": 0.1,
    }
    return Protocol(**(usual | values))  # type: ignore[arg-type]


def replay(
    embeddings: Embeddings, scenario: Scenario, rules: Protocol, chosen: object, cold_start: object = None
) -> list[Round]:
    running = Replay(
        scenario, Material(rules, embeddings, None), rules, chosen, cold_start or strategy("random")
    )  # type: ignore[arg-type]
    return [running.step() for _ in range(rules.rounds(scenario))]


def test_labels_audit_tasks_and_pool_add_up(embeddings: Embeddings) -> None:
    scenario = make()
    rounds = replay(embeddings, scenario, protocol(), strategy("margin"))
    assert [r.number for r in rounds] == [1, 2, 3, 4, 5]
    assert [r.labels for r in rounds] == [15, 30, 45, 60, 70]
    assert [r.audit_labels for r in rounds] == [2, 3, 5, 6, 7]
    assert [len(r.picks) for r in rounds] == [13, 14, 13, 14, 9]
    picks = [pick for r in rounds for pick in r.picks]
    assert len(set(picks)) == len(picks) == 63
    assert [r.pool for r in rounds] == [270 - 13, 270 - 27, 270 - 40, 270 - 54, 270 - 63]


def test_a_strategy_gets_what_it_needs_and_no_more(embeddings: Embeddings) -> None:
    scenario = make()
    everything = Watching(
        AVAILABLE["classification"],
    )
    replay(embeddings, scenario, protocol(), everything)
    pool = everything.pools[-1]
    assert pool.committee is not None and pool.committee.shape == (2, pool.size, 10)
    assert pool.embeddings is not None and pool.labeled_embeddings is not None
    assert len(pool.labeled_embeddings) == 60 == len(pool.labeled_groups["camera"])
    assert pool.labeled_targets is not None and len(pool.labeled_targets) == 60
    assert pool.validation is not None and len(pool.validation.features) == 6
    assert pool.features is not None and np.array_equal(pool.features, pool.embeddings)
    assert pool.classes == CLASSES
    cameras = {row.tobytes(): camera for row, camera in zip(embeddings.vectors(), CAMERAS, strict=True)}
    assert [cameras[row.tobytes()] for row in pool.embeddings] == pool.group("camera").tolist()
    assert [cameras[row.tobytes()] for row in pool.labeled_embeddings] == pool.labeled_groups[
        "camera"
    ].tolist()

    nothing = Watching(frozenset())
    replay(embeddings, scenario, protocol(), nothing)
    for name in (
        "committee",
        "embeddings",
        "labeled_embeddings",
        "features",
        "labeled_targets",
        "validation",
    ):
        assert getattr(nothing.pools[-1], name) is None
    assert not nothing.pools[-1].groups


def test_a_strategy_never_sees_the_test_set_nor_an_audit_task_before_its_label(
    embeddings: Embeddings,
) -> None:
    scenario = make()
    watching = Watching(frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.LABELED_TARGETS}))
    replay(embeddings, scenario, protocol(), watching)
    vectors = embeddings.vectors()
    test = {vectors[i].tobytes() for i in scenario.test.positions}
    audit = [vectors[i].tobytes() for i in scenario.audit.positions]
    for pool, audited in zip(watching.pools, [0, 2, 3, 5, 6], strict=True):
        assert pool.embeddings is not None and pool.labeled_embeddings is not None
        shown = {row.tobytes() for row in pool.embeddings}
        labeled = [row.tobytes() for row in pool.labeled_embeddings]
        assert not test & (shown | set(labeled))
        assert not shown & set(audit)
        assert not shown & set(labeled)
        assert [row for row in labeled if row in audit] == audit[:audited]


def test_a_strategy_that_needs_a_model_leaves_the_start_to_the_cold_start(embeddings: Embeddings) -> None:
    rules = protocol(batch=4, budget=16)
    starting = Watching(frozenset({Need.EMBEDDINGS}))
    modelled = Watching(frozenset({Need.PROBABILITIES}))
    replay(embeddings, make(), rules, modelled, starting)
    # 8 labels that are no audit tasks are there after three rounds.
    assert (len(starting.pools), len(modelled.pools)) == (3, 1)
    plain = Watching(frozenset({Need.EMBEDDINGS}))
    replay(embeddings, make(), rules, plain, starting)
    assert (len(starting.pools), len(plain.pools)) == (3, 4)


def test_all_strategies_start_from_the_same_labels_and_learners(embeddings: Embeddings) -> None:
    scenario = make()
    first = [replay(embeddings, scenario, protocol(), strategy(s))[0] for s in ("margin", "entropy")]
    for round_ in first:
        round_.__dict__.update(select_seconds=0, fit_seconds=0)
    assert first[0] == first[1]


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_run_taken_up_again_is_the_same_run(embeddings: Embeddings, done: int) -> None:
    scenario, rules = make(hard=HardCases(redundancy=2, label_noise=0.1)), protocol()
    chosen, cold_start = strategy("filter_then_diversify"), strategy("typiclust")
    whole = replay(embeddings, scenario, rules, chosen, cold_start)
    resumed = Replay(scenario, Material(rules, embeddings, None), rules, chosen, cold_start, whole[:done])
    rest = [resumed.step() for _ in range(done, len(whole))]
    assert untimed(rest) == untimed(whole[done:])


def untimed(rounds: list[Round]) -> list[dict[str, object]]:
    return [asdict(round_) | {"select_seconds": 0, "fit_seconds": 0} for round_ in rounds]


def test_more_labels_make_a_better_model_and_stopping_is_told_of_it(embeddings: Embeddings) -> None:
    rounds = replay(embeddings, make(), protocol(budget=150), strategy("margin"))
    assert rounds[0].agreement is None  # there was no model before it
    assert rounds[-1].score > rounds[0].score + 0.1
    assert rounds[0].log_loss is not None and rounds[-1].log_loss is not None
    assert rounds[-1].log_loss < rounds[0].log_loss
    first, last = rounds[1], rounds[-1]
    assert first.agreement is not None and last.agreement is not None and first.agreement < last.agreement
    assert first.uncertainty is not None and last.uncertainty is not None
    assert last.uncertainty < first.uncertainty
    assert last.accuracy is not None and last.interval is not None
    assert last.interval[0] < last.accuracy < last.interval[1]
    assert list(last.class_scores) == list(CLASSES)


def test_a_run_ends_when_all_is_labeled_with_the_score_of_all_but_the_audit_tasks(
    embeddings: Embeddings,
) -> None:
    scenario = make(audit_share=0)
    rules = protocol(batch=140, budget=10_000, audit_share=0)
    rounds = replay(embeddings, scenario, rules, strategy("k_center_greedy"))
    assert [r.labels for r in rounds] == [140, 280, 300]
    assert rounds[-1].pool == 0
    assert rounds[-1].uncertainty is None
    assert rounds[-1].score == pytest.approx(
        full_data_score(scenario, Material(rules, embeddings, None), rules), abs=0.03
    )


def test_with_all_candidates_labeled_the_rest_are_audit_tasks(embeddings: Embeddings) -> None:
    scenario = make(audit_share=0.5)
    rounds = replay(embeddings, scenario, protocol(batch=200, budget=300), strategy("margin"))
    assert [(r.labels, r.audit_labels, len(r.picks)) for r in rounds] == [(200, 50, 150), (300, 150, 0)]


def test_several_labels_an_image(embeddings: Embeddings) -> None:
    rules = protocol(classes=("large", "odd"), multiple=True)
    rounds = replay(embeddings, make(multi_label=True), rules, strategy("entropy"), strategy("typiclust"))
    assert rounds[-1].score > 0.5
    assert rounds[-1].agreement is not None
    assert rounds[-1].interval is not None


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_images_of_several_classes_are_scored_by_mean_average_precision() -> None:
    """By hand: the first class is ranked 1, 0, 1 (precision 1 and 2/3), the second perfectly, the third not there."""
    rules = protocol(classes=("sky", "road", "car"), multiple=True)
    truth = [ChoiceTarget(dict.fromkeys(names, 1.0), 1, True) for names in (["sky"], ["road"], ["sky"])]
    probabilities = np.array([[[0.9, 0.1, 0.5], [0.8, 0.7, 0.5], [0.3, 0.2, 0.5]]], np.float32)
    score = rules.score(ClassAnswers(rules.classes, True, probabilities), truth)
    assert score == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
