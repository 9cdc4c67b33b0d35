"""What the trainings of all models say and write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from seqrec_fast.data import ItemVocabulary
    from seqrec_fast.training import EpochResult, History


def train_and_export(
    model: Any,
    vocabulary: ItemVocabulary,
    out: str | None,
    epochs: int,
    fit: Callable[[Callable[[EpochResult], None]], History],
) -> None:
    """Call `fit` with what reports each epoch, and write the model; None: another process does."""
    from seqrec_fast.training import TrainingInterrupted

    def report(result: EpochResult) -> None:
        measures = {name: v for name, v in result.metrics.items() if name != "predictions"}
        results = "".join(f"  {name} {value:.4f}" for name, value in measures.items())
        click.echo(
            f"epoch {result.epoch}/{epochs}  loss {result.loss:.4f}{results}  "
            f"{result.seconds:.1f} s"
        )

    begin = time.perf_counter()
    try:
        history = fit(report)
    except TrainingInterrupted as error:
        if out is not None:
            click.echo(f"\n{error}", err=True)
        raise click.exceptions.Exit(130) from None
    if history.stopped_early:
        click.echo(f"stopped early: epoch {history.best_epoch} was the best")
    elif history.best_epoch is not None:
        click.echo(f"kept epoch {history.best_epoch}, the best")
    if out is None:
        return
    model.export(out, vocabulary)
    click.echo(
        f"{out}: {len(vocabulary):,} items, {os.path.getsize(out):,} bytes, trained in "
        f"{time.perf_counter() - begin:.1f} s"
    )


def resumes(options: dict[str, Any]) -> bool:
    """Return whether there is a checkpoint to go on from."""
    return bool(options["resume"] and os.path.exists(options["checkpoint"]))
