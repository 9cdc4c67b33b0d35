"""``seqrec-fast evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from seqrec_fast.cli._click_through import (
    evaluate_click_through,
    given_options,
    sample_options,
)
from seqrec_fast.cli._options import (
    device_option,
    exclude_seen_option,
    integer_list,
    log_options,
    model_argument,
    module_on,
    precision_option,
    progress,
    threads_option,
)

if TYPE_CHECKING:
    from seqrec_fast.data import FilterReport, ItemVocabulary, Sessions


@click.command(short_help="Measure how well a model predicts the events of a log.")
@model_argument
@click.argument("log", type=click.Path())
@click.option(
    "--k",
    "ks",
    default="10,20",
    show_default=True,
    callback=integer_list,
    metavar="K,...",
    help="Lengths of the list.",
)
@click.option(
    "--ties",
    default="conservative",
    show_default=True,
    type=click.Choice(["conservative", "standard", "median"]),
    help="Where the target stands among items of the same score: last, first, or in the middle.",
)
@exclude_seen_option("Do not rank the items of the history.")
@click.option("--last-only", is_flag=True, help="Predict the last event of each session only.")
@click.option(
    "--leave-one-out",
    is_flag=True,
    help="As --last-only, for a model trained with --leave-one-out on the same log: sessions of "
    "fewer than three events have no part.",
)
@sample_options
@click.option(
    "--history",
    type=click.Path(),
    help="Click-through models: log of the clicks before LOG, such as that of the training, with "
    "the same columns.",
)
@click.option(
    "--max-length",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Click-through models: longest history, as in training.",
)
@precision_option
@device_option
@threads_option
@log_options
def evaluate(
    model: str,
    log: str,
    ks: tuple[int, ...],
    ties: str,
    exclude_seen: bool,
    last_only: bool,
    leave_one_out: bool,
    precision: str,
    device: str | None,
    threads: int | None,
    columns: dict[str, Any],
    **samples: Any,
) -> None:
    """Measure how well MODEL predicts the next events, or the clicks, in the file LOG.

    Each event after the first of a session is predicted from those before it, and its item is
    ranked among all items of the model. Events of items that the model does not know are left
    out and counted. Recall@k is the share of events whose item is among the first k.

    Click-through models are measured by AUC, GAUC (the mean of the users' AUC, weighted by their
    samples) and log-loss: on the rows of LOG, or, without labels, on its events and negatives that
    are drawn.

    \b
    Examples:
      seqrec-fast evaluate model.safetensors test.tsv
      seqrec-fast evaluate model.safetensors ratings.tsv.gz --leave-one-out --exclude-seen --k 10
      seqrec-fast evaluate din.safetensors test.tsv --label-column click --history train.tsv
    """  # noqa: D301 - a mark for click
    from seqrec_fast.evaluation import evaluate as evaluate_model
    from seqrec_fast.recommender import load

    on_device = module_on("evaluate", model, device, precision)
    if on_device is None:
        recommender = load(model, precision=precision)
        vocabulary, task = recommender.vocabulary, recommender.task
    else:
        module, vocabulary = on_device
        task = module.task
    if on_device is not None and task != "next-item":
        raise ValueError(f"evaluate: {model} is a click-through model; expected --device cpu")
    if task == "click-through":
        given = given_options(model, lambda option: option not in ("ks", "ties", "exclude_seen"))
        samples |= {"columns": columns, "last_only": last_only, "leave_one_out": leave_one_out}
        evaluate_click_through(recommender, log, samples, given)
        return
    given_options(model, lambda option: option not in samples)
    sessions, report = _read(vocabulary, log, leave_one_out, columns)
    how: dict[str, Any] = {
        "targets": "last" if last_only or leave_one_out else "all",
        "exclude_seen": exclude_seen,
        "mode": ties,
    }
    with progress(total=len(sessions), unit=" sessions", unit_scale=True) as bar:
        if on_device is None:
            values = evaluate_model(recommender, sessions, ks, on_sessions=bar.update, **how)
        else:
            from seqrec_fast.training import evaluate as evaluate_module

            values = evaluate_module(module, sessions, ks, on_sessions=bar.update, **how)
    click.echo(f"{log}: {report}")
    click.echo(
        f"{values['predictions']:,} predictions in {len(sessions):,} sessions, "
        f"{len(vocabulary):,} items ranked, ties {ties}"
    )
    click.echo(table(values, ks))


def table(values: dict[str, float], ks: tuple[int, ...]) -> str:
    """Lay out metrics, one row for each k."""
    names = ("recall", "mrr", "ndcg", "coverage")
    lines = ["   k" + "".join(f"{name:>10}" for name in names)]
    for k in ks:
        lines.append(f"{k:4}" + "".join(f"{values[f'{name}@{k}']:10.4f}" for name in names))
    return "\n".join(lines)


def _read(
    vocabulary: ItemVocabulary, log: str, leave_one_out: bool, columns: dict[str, Any]
) -> tuple[Sessions, FilterReport]:
    from seqrec_fast.data import build_sessions, read_log, split_leave_one_out

    sessions, _, report = build_sessions(read_log(log, **columns), vocabulary=vocabulary)
    if leave_one_out:
        sessions = split_leave_one_out(sessions)[2]
    if len(sessions) == 0:
        raise ValueError(f"evaluate: {log} leaves no session to predict in: {report}")
    return sessions, report
