"""Three claims of active learning, measured: each a table, a chart and numbers.

    .venv/bin/python benchmarks/mission_figures.py --out figures [--data fashion-mnist --batch 40 --budget 400]

- committees: uncertainty of a deep ensemble, of MC dropout and of one network's softmax, for the same network and the
  same acquisition function (Beluch et al., CVPR 2018). Whatever chose the labels, the score is that of the same deep
  ensemble trained on them, so that only the choice is compared.
- rare_class: uncertainty, diversity and balance, alone and together, on a long-tailed pool: recall of the rarest class,
  another one with each seed, and balanced accuracy. All but random start with the same batch, by k_center_greedy.
- domain_shift: the labeled images, and three quarters of the pool, are upright; the learner shall serve a camera that
  is mounted on its side. Accuracy on turned images.

`--data` is a folder with the four idx files of Fashion-MNIST (github.com/zalandoresearch/fashion-mnist), or any dataset
that `active-learning simulate` reads; without it, scikit-learn's digits. The same command again goes on where it was
stopped. Scores are means over the seeds with 95 % intervals (Student's t); differences are paired by seed.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from backend.learners.committee import Learner as CommitteeKind
from backend.learners.embedding import SELF_SUPERVISED
from backend.simulation.dataset import Dataset
from backend.simulation.datasets import read_dataset
from backend.simulation.embeddings import Embeddings, embed
from backend.simulation.experiment import Experiment, Results, run
from backend.simulation.hard_cases import HardCases, Images
from backend.simulation.material import Material
from backend.simulation.plots import COLOURS, INK
from backend.simulation.replay import Protocol, Round
from backend.simulation.run_files import append_round, read_rounds, run_path
from backend.simulation.scenario import Scenario, make_scenario
from backend.simulation.summary import RANDOM, estimate

MEMBERS = 8
AUDIT_SHARE = 0.1
IMBALANCE = 100
COLD_START = "k_center_greedy"  # so that all ways but random have the same first batch
SOURCE_LABELS = 200  # in the other domain, audit tasks counted
TARGET_SHARE = 1 / 4  # of the pool that is of the target domain
SHIFT_AUDIT_SHARE = 0.25  # active transfer learning learns from audit tasks

TOGETHER = {
    "product: margin, k-center, balance": '{"product": {"objectives": ["margin", "k_center_greedy", "balance"]}}',
    "quotas of uncertainty herding": '{"quotas": {"strategy": "uncertainty_herding"}}',
}
ALONE = {
    RANDOM: RANDOM,
    "margin": "margin",
    "k_center_greedy": "k_center_greedy",
    "balance": '{"quotas": {"strategy": "random"}}',
}
UNDER_SHIFT = (
    RANDOM,
    "margin",
    "active_transfer_learning",
    "atlas",
    "aada",
    "discriminative",
    "representative",
)

console = Console()


@dataclass(frozen=True)
class Measured:
    """Scores of several ways to choose, at equal labels: by way, a list for each seed."""

    name: str
    title: str
    score: str
    labels: list[int]
    scores: dict[str, list[list[float]]]


def main() -> None:
    """Measure and write all figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, help="use so many images of the dataset")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--only", choices=("committees", "rare_class", "domain_shift"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    dataset = read_dataset(options.data, options.images)
    for measure in (committees, rare_class, domain_shift):
        if options.only in (None, measure.__name__):
            folder = options.out / measure.__name__
            for measured in measure(dataset, folder, options):
                write(measured, options.out)


def committees(dataset: Dataset, folder: Path, options: argparse.Namespace) -> list[Measured]:
    """Who is asked what is uncertain."""
    scenarios = [make_scenario(dataset, HardCases(), AUDIT_SHARE, seed) for seed in range(options.seeds)]
    embeddings = embedded(dataset, scenarios, folder)
    usual = protocol_of(dataset, options.batch, options.budget, AUDIT_SHARE, learner="ensemble")
    ways = {
        RANDOM: (usual, RANDOM),
        "one network's softmax, entropy": (replace(usual, members=1), "entropy"),
        "MC dropout, entropy": (replace(usual, learner="dropout"), "entropy"),
        "deep ensemble, entropy": (usual, "entropy"),
        "one network's softmax, margin": (replace(usual, members=1), "margin"),
        "MC dropout, margin": (replace(usual, learner="dropout"), "margin"),
        "deep ensemble, margin": (usual, "margin"),
        "MC dropout, BALD": (replace(usual, learner="dropout"), "bald"),
        "deep ensemble, BALD": (usual, "bald"),
    }
    chosen, own = {}, {}
    for way, (protocol, spec) in ways.items():
        part = folder / f"{protocol.learner}-{protocol.members}"
        found = simulated(way, part, scenarios, embeddings, protocol, [spec])
        runs = [found.runs[spec, scenario.seed] for scenario in scenarios]
        own[way] = [[r.score for r in rounds] for rounds in runs]
        chosen[way] = runs
    with Progress(console=console) as progress:
        bar = progress.add_task("Training the same ensemble on all choices", total=len(ways) * len(scenarios))
        judged = {}
        for way, runs in chosen.items():
            judged[way] = []
            for scenario, rounds in zip(scenarios, runs, strict=True):
                judged[way].append(scores_of(usual, scenario, embeddings, rounds))
                progress.advance(bar)
    labels = [r.labels for r in chosen[RANDOM][0]]
    title = "Who is asked what is uncertain"
    return [
        Measured("committees", title, "accuracy of a deep ensemble on the chosen labels", labels, judged),
        Measured("committees_own", title, "accuracy of the learner that chose", labels, own),
    ]


def scores_of(
    protocol: Protocol, scenario: Scenario, embeddings: Embeddings, rounds: Sequence[Round]
) -> list[float]:
    """Accuracy of the protocol's learner on what was labeled, round by round; its seed is no run's."""
    material, scores, picks = Material(protocol, embeddings, None), [], np.empty(0, np.int64)
    truth = material.targets(scenario.test)
    for done in rounds:
        picks = np.append(picks, done.picks)
        labeled = scenario.candidates.take(picks)
        learner = protocol.fit(material, labeled, seed=500 + 1000 * scenario.seed + done.number)
        scores.append(protocol.measure(material.answers(learner, scenario.test), truth).score)
    return scores


def rare_class(dataset: Dataset, folder: Path, options: argparse.Namespace) -> list[Measured]:
    """Uncertainty, diversity and balance, alone and together, on a long-tailed pool."""
    protocol = protocol_of(dataset, options.batch, options.budget, AUDIT_SHARE)
    even = evened(dataset)
    scenarios = [
        # Of classes of one size the last one becomes the rarest: another one with each seed.
        make_scenario(
            replace(even, targets=np.roll(even.targets, seed, axis=1)),
            HardCases(imbalance=IMBALANCE),
            AUDIT_SHARE,
            seed,
        )
        for seed in range(options.seeds)
    ]
    embeddings = embedded(even, scenarios, folder)
    ways = ALONE | TOGETHER
    found = simulated("rare_class", folder, scenarios, embeddings, protocol, list(ways.values()))
    rarest = [int(s.candidates.targets.sum(axis=0).argmin()) for s in scenarios]
    recalls: dict[str, list[list[float]]] = {way: [] for way in ways}
    balanced: dict[str, list[list[float]]] = {way: [] for way in ways}
    for way, spec in ways.items():
        for scenario, rare in zip(scenarios, rarest, strict=True):
            by_round = [
                [recall or 0.0 for recall in done.class_scores.values()]
                for done in found.runs[spec, scenario.seed]
            ]
            recalls[way].append([of_class[rare] for of_class in by_round])
            balanced[way].append([float(np.mean(of_class)) for of_class in by_round])
    labels = [r.labels for r in found.runs[RANDOM, 0]]
    title = f"A class {IMBALANCE} times rarer than the commonest"
    return [
        Measured("rare_class", title, "recall of the rarest class", labels, recalls),
        Measured("rare_class_balanced", title, "balanced accuracy", labels, balanced),
    ]


def evened(dataset: Dataset) -> Dataset:
    """The dataset with as many images of each class outside of its own test split."""
    test = np.empty(0, np.int64) if dataset.test is None else dataset.test
    pool = np.setdiff1d(np.arange(len(dataset)), test)
    classes = dataset.targets[pool].argmax(axis=1)
    size = np.bincount(classes).min()
    kept = np.concatenate([*(pool[classes == c][:size] for c in range(len(dataset.classes))), test])
    return replace(
        dataset,
        targets=dataset.targets[kept],
        load=lambda position: dataset.load(int(kept[position])),
        groups={},
        test=None if dataset.test is None else np.arange(len(kept) - len(test), len(kept)),
        fingerprint=f"{dataset.fingerprint}, evened",
    )


def domain_shift(dataset: Dataset, folder: Path, options: argparse.Namespace) -> list[Measured]:
    """Labeled images of one domain, a pool with some of another, a learner that shall serve the other."""
    source_rounds = -(-SOURCE_LABELS // options.batch)
    budget = source_rounds * options.batch + options.budget
    protocol = protocol_of(dataset, options.batch, budget, SHIFT_AUDIT_SHARE)
    both = with_turned(dataset)
    scenarios, sources = [], []
    for seed in range(options.seeds):
        scenario, source = shifted(dataset, protocol, source_rounds, seed)
        scenarios.append(scenario)
        sources.append(source)
    embeddings = embedded(both, scenarios, folder)
    for strategy in UNDER_SHIFT:
        for scenario, source in zip(scenarios, sources, strict=True):
            path = run_path(folder, strategy, scenario.seed)
            for done in source[len(read_rounds(path)) :]:
                append_round(path, done)
    found = simulated("domain_shift", folder, scenarios, embeddings, protocol, UNDER_SHIFT)
    first = source_rounds * options.batch
    labels = [r.labels - first for r in found.runs[RANDOM, 0][source_rounds:]]
    scores = {
        strategy: [[r.score for r in found.runs[strategy, s.seed][source_rounds:]] for s in scenarios]
        for strategy in UNDER_SHIFT
    }
    title = f"From {first} upright images to a camera on its side"
    return [Measured("domain_shift", title, "accuracy on turned images", labels, scores)]


def with_turned(dataset: Dataset) -> Dataset:
    """The dataset, and behind it the same images on their sides."""

    def load(position: int) -> Image.Image:
        image = dataset.load(position % len(dataset))
        return image.transpose(Image.Transpose.ROTATE_90) if position >= len(dataset) else image

    test = None if dataset.test is None else np.concatenate([dataset.test, dataset.test + len(dataset)])
    targets = np.concatenate([dataset.targets, dataset.targets])
    fingerprint = f"{dataset.fingerprint}, and turned"
    return replace(dataset, targets=targets, load=load, groups={}, test=test, fingerprint=fingerprint)


def shifted(
    dataset: Dataset, protocol: Protocol, source_rounds: int, seed: int
) -> tuple[Scenario, list[Round]]:
    """A pool with some turned images, a turned test set, and the rounds in which the source was labeled."""
    usual = make_scenario(dataset, HardCases(), protocol.audit_share, seed)
    rng = np.random.default_rng(seed)
    audited = round(protocol.audit_share * source_rounds * protocol.batch)
    source = rng.permutation(len(usual.candidates))[: source_rounds * protocol.batch - audited]

    def turned(images: Images, which: NDArray[np.bool_]) -> Images:
        return replace(images, positions=images.positions + which * len(dataset))

    of_target = rng.random(len(usual.candidates)) < TARGET_SHARE
    of_target[source] = False
    scenario = replace(
        usual,
        candidates=turned(usual.candidates, of_target),
        audit=turned(usual.audit, rng.random(len(usual.audit)) < TARGET_SHARE),
        test=turned(usual.test, np.ones(len(usual.test), bool)),
    )
    parts = np.array_split(source, source_rounds)
    return scenario, [
        Round(
            number=number,
            picks=part.tolist(),
            labels=number * protocol.batch,
            audit_labels=round(protocol.audit_share * number * protocol.batch),
            pool=0,
            score=0.0,
            log_loss=0.0,
            class_scores={},
            accuracy=None,
            interval=None,
            agreement=None,
            uncertainty=None,
            select_seconds=0.0,
            fit_seconds=0.0,
        )
        for number, part in enumerate(parts, 1)
    ]


def protocol_of(
    dataset: Dataset, batch: int, budget: int, audit_share: float, learner: CommitteeKind = "linear"
) -> Protocol:
    """The same for all that is compared."""
    return Protocol(
        "classification", dataset.classes, False, batch, budget, audit_share, learner=learner, members=MEMBERS
    )


def embedded(dataset: Dataset, scenarios: Sequence[Scenario], folder: Path) -> Embeddings:
    """The embeddings of all images of the scenarios."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [part for s in scenarios for part in (s.candidates, s.audit, s.test)]
    with Progress(console=console) as progress:
        bar = progress.add_task(f"Embedding for {folder.name}")
        return embed(dataset, parts, SELF_SUPERVISED, folder, advance(progress, bar))


def advance(progress: Progress, bar: object) -> Callable[[int, int], None]:
    """To be told how much is done, and of how much."""
    return lambda done, total: progress.update(bar, completed=done, total=total)  # type: ignore[arg-type]


def simulated(
    what: str,
    folder: Path,
    scenarios: Sequence[Scenario],
    embeddings: Embeddings,
    protocol: Protocol,
    specs: Sequence[str],
) -> Results:
    """Run what is missing in the folder."""
    experiment = Experiment(folder, tuple(scenarios), embeddings, protocol, tuple(specs), COLD_START)
    with Progress(console=console) as progress:
        bar = progress.add_task(what, total=experiment.steps)
        return run(experiment, lambda: progress.advance(bar))


def write(measured: Measured, folder: Path) -> None:
    """Print the table; write numbers and chart."""
    print_table(measured)
    path = folder / measured.name
    path.with_suffix(".json").write_text(json.dumps(asdict(measured), indent=1) + "\n")
    chart(measured).savefig(path.with_suffix(".svg"), metadata={"Date": None})
    chart(measured).savefig(path.with_suffix(".png"), dpi=100)


def print_table(measured: Measured) -> None:
    """Scores at a third, two thirds and all of the labels, their mean over all, and how that compares with random."""
    last = len(measured.labels) - 1
    shown = sorted({last // 3, 2 * last // 3, last})
    table = Table(title=f"{measured.title}: {measured.score}, {len(measured.scores[RANDOM])} seeds")
    table.add_column("chosen by")
    for place in shown:
        table.add_column(f"{measured.labels[place]} labels", justify="right")
    table.add_column("mean of all rounds", justify="right")
    table.add_column("less random's", justify="right")
    for way, by_seed in measured.scores.items():
        scores = np.array(by_seed)
        cells = [interval(scores[:, place]) for place in shown]
        difference = scores.mean(axis=1) - np.array(measured.scores[RANDOM]).mean(axis=1)
        compared = "" if way == RANDOM else interval(difference, sign="+")
        table.add_row(way, *cells, interval(scores.mean(axis=1)), compared)
    console.print(table)


def interval(values: NDArray[np.float64], sign: str = "") -> str:
    """Mean and half of its interval, in per cent."""
    found = estimate(values.tolist())
    half = "" if found.high is None else f" ± {100 * (found.high - found.mean):.1f}"
    return f"{100 * found.mean:{sign}.1f}{half}"


def chart(measured: Measured) -> Figure:
    """Scores against labels, with 95 % bands."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    colours: Mapping[str, str] = dict(
        zip([way for way in measured.scores if way != RANDOM], COLOURS, strict=False)
    )
    for place, (way, by_seed) in enumerate(measured.scores.items()):
        points = [estimate(list(scores)) for scores in zip(*by_seed, strict=True)]
        colour, line = colours.get(way, INK), "--" if way == RANDOM else "-"
        axes.plot(measured.labels, [p.mean for p in points], line, color=colour, linewidth=2, label=way)
        if points[0].low is not None:
            low, high = [p.low for p in points], [p.high for p in points]
            axes.fill_between(measured.labels, low, high, color=colour, alpha=0.1, linewidth=0, zorder=place)  # type: ignore[arg-type]
    axes.set_title(measured.title)
    axes.set_xlabel("labels, audit tasks counted")
    axes.set_ylabel(measured.score)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
