"""The command `active-learning simulate`."""

import shlex
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from backend.failures import fail, failures
from backend.learners.kinds import CommitteeKind, DetectorKind
from backend.settings import LoopSettings
from backend.targets import VisionTask

_DEFAULTS = LoopSettings()
_STOPPING = "{target_accuracy: 0.9},plateau,stable_predictions,low_uncertainty"
_INTERRUPTED = 130  # as shells say it


def simulate(
    dataset: Annotated[
        str,
        typer.Argument(
            help="`digits`; a folder with a folder for each class, with idx files, or with images and masks; an .npz "
            "file; COCO JSON; a JSON export of Label Studio; or `project:3`, a Label Studio project.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results. The same command again resumes there.")],
    task: Annotated[VisionTask, typer.Option(help="What is asked of the images.")] = "classification",
    strategies: Annotated[
        str,
        typer.Option(help="What to compare with random: specs, separated by commas outside of braces."),
    ] = "default",
    batch: Annotated[int, typer.Option(help="Labels between two trainings.")] = 20,
    budget: Annotated[int, typer.Option(help="Labels in all, audit tasks counted.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, each with another split and order.")] = 5,
    cold_start: Annotated[
        str, typer.Option(help="What labels for strategies that need a model, until there is one.")
    ] = _DEFAULTS.cold_start_strategy,
    embedding: Annotated[
        str, typer.Option(help="As the setting: `auto`, a timm model, or `self-supervised`.")
    ] = _DEFAULTS.embedding,
    stopping: Annotated[
        str, typer.Option(help="Criteria that are asked when they would have stopped; as --strategies.")
    ] = _STOPPING,
    imbalance: Annotated[
        float, typer.Option(help="Hard case: the pool's largest class is so many times its smallest.")
    ] = 1,
    duplicates: Annotated[
        float, typer.Option(help="Hard case: this share of the pool is near-duplicates of the rest.")
    ] = 0,
    label_noise: Annotated[
        float, typer.Option(help="Hard case: this share of the pool's labels is wrong.")
    ] = 0,
    redundancy: Annotated[int, typer.Option(help="Hard case: each image is so many times in the pool.")] = 1,
    learner: Annotated[CommitteeKind, typer.Option(help="As the setting.")] = _DEFAULTS.learner,
    members: Annotated[int, typer.Option(min=2, help="Learners in the committee.")] = _DEFAULTS.members,
    detector: Annotated[DetectorKind, typer.Option(help="As the setting.")] = _DEFAULTS.detector,
    backbone: Annotated[str, typer.Option(help="As the setting.")] = _DEFAULTS.backbone,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many images of the dataset only.")] = None,
) -> None:
    """Replay labeling on a labeled dataset: what would each strategy have saved against random order?"""
    from backend.learners.embedding import BackboneUnavailable
    from backend.simulation.hard_cases import HardCases
    from backend.simulation.simulation import Request, run_simulation

    console = Console()
    with failures():
        try:
            request = Request(
                source=dataset,
                task=task,
                strategies=tuple(dict.fromkeys(("random", *split_specs(strategies)))),
                batch=batch,
                budget=budget,
                seeds=seeds,
                out=out,
                cold_start=cold_start,
                embedding=embedding,
                stopping=split_specs(stopping),
                hard_cases=HardCases(imbalance, duplicates, redundancy, label_noise),
                learner=learner,
                members=members,
                detector=detector,
                backbone=backbone,
                limit=limit,
                command=shlex.join(["active-learning", *sys.argv[1:]]),
            )
            run_simulation(request, console)
        except ValidationError:  # of the environment
            raise
        except (ValueError, BackboneUnavailable) as error:
            fail(str(error))
        except BrokenExecutor:
            fail("A run was killed, most likely for want of memory. The same command resumes; try --limit.")
        except KeyboardInterrupt:
            console.print("Stopped. The same command resumes.")
            raise typer.Exit(_INTERRUPTED) from None


def split_specs(text: str) -> tuple[str, ...]:
    """The specs in a list such as `margin,{mixture: …}`: commas within braces, brackets or quotes divide nothing."""
    specs, start, depth, quote = [], 0, 0, ""
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "{[":
            depth += 1
        elif sign in "}]":
            depth -= 1
        elif sign == "," and depth == 0:
            specs.append(text[start:place])
            start = place + 1
    return tuple(" ".join(spec.split()) for spec in (*specs, text[start:]) if spec.strip())
