"""How long selections take, ours and the peers' side by side, and how ours grow with the pool.

    .venv/bin/python benchmarks/selection.py [k_center] [million] [strategies]

- k_center: 300 picks of 100,000 images by k-center greedy: scikit-activeml's CoreSet, small-text's greedy core-set,
  lightly-mundig, a plain pass over all images for each pick, and ours.
- million: 1,000 picks of 1,000,000: lightly-mundig and ours, by diversity alone, and by diversity, weight and class
  balance together.
- strategies: every strategy there is, at each of --sizes: seconds, what they grow by against N·log N, peak memory.

384 dimensions, 100 labeled, a committee of 10 members with 10 classes. Each case runs in a process of its own, alone.
Timings of one run on one machine; compare the ratios. Where others use the machine, too, take one thread
(OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1) and compare the processor's seconds. The peers: `make test` installs them.
"""

import argparse
import multiprocessing
import tempfile
from math import log
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from selection_cases import PRODUCT, Case, Outcome, make_data, run

from strategies import InvalidSpec, strategy, strategy_names

console = Console()
_processes = multiprocessing.get_context("spawn")  # a fork would count this process's memory, too

# The strategies that need parameters.
SPECS = {
    "mixture": "{mixture: {strategies: [margin, k_center_greedy], shares: [3, 1]}}",
    "power_acquisition": "{power_acquisition: margin}",
    "product": PRODUCT,
    "without_near_duplicates": "{without_near_duplicates: {strategy: margin}}",
}


def main() -> None:
    """Run the cases that are asked for and print their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="k_center, million, strategies; all by default")
    parser.add_argument(
        "--data", nargs="+", default=["clusters", "gaussian"], choices=["clusters", "gaussian"]
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--only", nargs="+", metavar="STRATEGY", help="of the strategies, these")
    parser.add_argument("--picks", type=int, default=1000, help="of the strategies, in batches of 100")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a case is given up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.limit)
        for part in options.parts or ["k_center", "million", "strategies"]:
            match part:
                case "k_center":
                    for data in options.data:
                        libraries = ["scikit-activeml", "small-text", "lightly-mundig", "pass per pick"]
                        side_by_side(bench, "k_center_greedy", data, 100_000, 300, libraries)
                case "million":
                    for data in options.data:
                        for what in ("k_center_greedy", PRODUCT):
                            side_by_side(bench, what, data, 1_000_000, 1000, ["lightly-mundig"])
                case "strategies":
                    growth(bench, options.data[0], options.sizes, options.picks, options.only)
                case _:
                    parser.error(f"there is no part {part}; there are k_center, million, strategies")


class Bench:
    """Runs cases, each in a process of its own."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self.made: set[tuple[str, int]] = set()

    def outcome(self, case: Case) -> Outcome | str:
        """What came of a case, or why nothing did."""
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as progress:
            progress.add_task(
                f"{case.library}: {escape(case.what)}, {case.picks:,} of {case.size:,}, {case.data}"
            )
            self._make_data(case.data, case.size)
            receiver, sender = _processes.Pipe(duplex=False)
            process = _processes.Process(target=run, args=(case, self.folder, sender))
            process.start()
            sender.close()
            try:
                if receiver.poll(self.limit):
                    answer: Outcome = receiver.recv()
                    return answer
                return f"more than {self.limit:.0f} s"
            except EOFError:
                process.join()
                return f"failed, exit code {process.exitcode}"
            finally:
                process.kill()
                process.join()

    def _make_data(self, data: str, size: int) -> None:
        """In a process of its own: this one stays small, since a new process inherits its peak of memory."""
        if (data, size) not in self.made:
            maker = _processes.Process(target=make_data, args=(self.folder, data, size))
            maker.start()
            maker.join()
            self.made.add((data, size))


def side_by_side(bench: Bench, what: str, data: str, size: int, picks: int, libraries: list[str]) -> None:
    """Print how long each library takes, and how many times longer that is than ours."""
    outcomes = {name: bench.outcome(Case(name, what, data, size, picks)) for name in [*libraries, "ours"]}
    ours = outcomes["ours"]
    table = Table(title=f"{escape(what)}: {picks:,} of {size:,} images, {data}")
    table.add_column("Library", no_wrap=True)
    for heading in ("Seconds", "÷ ours", "CPU s", "÷ ours", "Peak GB", "Same picks"):
        table.add_column(heading, justify="right")
    for name, outcome in outcomes.items():
        if isinstance(outcome, str) or isinstance(ours, str):
            table.add_row(name, str(outcome))
            continue
        same = len(np.intersect1d(outcome.picks, ours.picks)) / picks
        table.add_row(
            name,
            f"{outcome.seconds:.2f}",
            f"{outcome.seconds / ours.seconds:.1f}",
            f"{outcome.cpu_seconds:.2f}",
            f"{outcome.cpu_seconds / ours.cpu_seconds:.1f}",
            f"{outcome.gigabytes:.1f}",
            f"{same:.1%}",
        )
    console.print(table)


def growth(bench: Bench, data: str, sizes: list[int], picks: int, only: list[str] | None) -> None:
    """Print for each strategy how long it takes at each size, and by how much more than N·log N that grows."""
    table = Table(title=f"Every strategy: {picks:,} picks in batches of 100, {data}")
    table.add_column("Strategy")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    table.add_column("Growth / N·log N", justify="right")
    table.add_column("Peak GB", justify="right")
    for name in only or strategy_names():
        outcomes = [bench.outcome(Case("ours", spec_of(name), data, size, picks)) for size in sizes]
        cells = [o if isinstance(o, str) else f"{o.seconds:.2f} s" for o in outcomes]
        measured = [(n, o) for n, o in zip(sizes, outcomes, strict=True) if isinstance(o, Outcome)]
        grown = "–"
        if len(measured) > 1:
            (n, small), (m, large) = measured[-2:]
            grown = f"{large.seconds / small.seconds / (m * log(m) / (n * log(n))):.2f}"
        peak = f"{max(o.gigabytes for _, o in measured):.1f}" if measured else "–"
        table.add_row(name, *cells, grown, peak)
        console.print(f"{name}: {', '.join(cells)}; {peak} GB")
    console.print(table)


def spec_of(name: str) -> str:
    """The strategy as it comes, or with the parameters that it cannot do without."""
    try:
        strategy(name)
    except InvalidSpec:
        if name not in SPECS:
            raise
        return SPECS[name]
    return name


if __name__ == "__main__":
    main()
