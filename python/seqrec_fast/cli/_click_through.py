"""Click-through models on the command line: which there are, their samples, their training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np

from seqrec_fast.cli._options import progress
from seqrec_fast.cli._training import resumes, train_and_export

if TYPE_CHECKING:
    from seqrec_fast.data import ClickSamples, FilterReport, ItemVocabulary, Sessions

Command = TypeVar("Command", bound=Callable[..., Any])

#: Options of `train` for a theme mixture of either task.
THEME_OPTIONS = ("n_themes", "k", "session_gap")
# Class, options that the model takes beside those of all, and fixed parameters.
_MODELS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "din": ("DIN", ("embedding_dim",), {}),
    "dien": (
        "DIEN",
        ("embedding_dim", "hidden_size", "attention_mode", "auxiliary_weight"),
        {},
    ),
    "recurrent-ctr": (
        "RecurrentCTR",
        ("embedding_dim", "hidden_size", "cell"),
        {},
    ),
    "theme-mixture": (
        "ThemeMixture",
        ("hidden_size", *THEME_OPTIONS),
        {"task": "click-through"},
    ),
}
CLICK_MODELS = tuple(_MODELS)
#: Options of `train` that mean nothing to other models.
CLICK_OPTIONS = (
    "label_column", "n_negatives", "negatives_by", "auxiliary_weight", "attention_mode"
)  # fmt: skip
# What makes samples of events that have no labels.
_WITHOUT_LABELS = (
    "n_negatives", "negatives_by", "last_only", "leave_one_out", "min_session_length"
)  # fmt: skip

_ANY_MODEL = ("dropout_embedding", "dropout_hidden")
_TRAINING = ("epochs", "batch_size", "max_length", "lr", "weight_decay", "lr_decay", "patience",
             "validation", "seed", "device")  # fmt: skip
_DATA = (
    "log", "out", "model", "label_column", "n_negatives", "negatives_by", "valid", "leave_one_out",
    "min_item_support", "min_session_length", "checkpoint", "resume", "threads", "format",
    "session_column", "item_column", "time_column",
)  # fmt: skip


def sample_options(command: Command) -> Command:
    """Add the options that say which samples a log stands for."""
    for option in (
        click.option(
            "--negatives-by",
            type=click.Choice(["uniform", "popularity"]),
            default="uniform",
            show_default=True,
            help="Draw them from all items alike, or in proportion to the items' events in LOG.",
        ),
        click.option(
            "--negatives",
            "n_negatives",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Click-through models, LOG without labels: items drawn as not clicked for each "
            "event.",
        ),
        click.option(
            "--label-column",
            metavar="NAME",
            help="Click-through models: column that says whether an item that was shown was "
            "clicked (1) or not (0).",
        ),
    ):
        command = option(command)
    return command


def train_click_through(log: str, out: str | None, options: dict[str, Any]) -> None:
    """Train a click-through model, and write it; None: another process does."""
    from seqrec_fast import models
    from seqrec_fast.training import ClickThroughOptions, ClickThroughTrainer

    name, own, fixed = _MODELS[options["model"]]
    known = (*own, *fixed, *_ANY_MODEL, *_TRAINING, *_DATA)
    given = given_options(options["model"], lambda option: option in known)
    if options["label_column"] is not None:
        if options["leave_one_out"]:
            raise click.UsageError("--leave-one-out and --label-column exclude each other")
        _check_labelled(given)
    training = ClickThroughOptions(**{n: options[n] for n in _TRAINING if n in given})
    train, valid, vocabulary = _training_samples(log, training.patience, training.seed, options)
    sizes = {n: options[n] for n in (*own, *_ANY_MODEL) if n in given}
    if "dropout_hidden" in sizes and name != "ThemeMixture":
        sizes["dropout"] = sizes.pop("dropout_hidden")
    model = getattr(models, name)(len(vocabulary), seed=training.seed, **fixed, **sizes)
    train_and_export(
        model,
        vocabulary,
        out,
        training.epochs,
        lambda report: ClickThroughTrainer(model, training).fit(
            train,
            valid,
            checkpoint=options["checkpoint"],
            resume=resumes(options),
            progress=None,
            on_epoch=report,
        ),
    )


def evaluate_click_through(
    predictor: Any, log: str, options: dict[str, Any], given: dict[str, str]
) -> None:
    """Print AUC, GAUC and log-loss of a click-through model on the samples of a log."""
    from seqrec_fast.evaluation import evaluate_click_through as evaluate

    if options["label_column"] is not None:
        _check_labelled(given)
    samples, report = _test_samples(predictor.vocabulary, log, options)
    with progress(total=len(samples), unit=" samples", unit_scale=True) as bar:
        values = evaluate(
            predictor, samples, max_length=options["max_length"], on_samples=bar.update
        )
    click.echo(f"{log}: {report}")
    click.echo(str(samples))
    for name, value in values.items():
        click.echo(f"{name:8}{value:10.4f}")


def given_options(model: str, has_effect: Callable[[str], bool]) -> dict[str, str]:
    """Return names and flags of the options on the command line; raise for one without effect."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    given = {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is not default
    }
    for name, option in given.items():
        if not has_effect(name):
            raise click.UsageError(f"{option} has no effect on the model {model}")
    return given


def _check_labelled(given: dict[str, str]) -> None:
    for name in _WITHOUT_LABELS:
        if name in given:
            raise click.UsageError(f"{given[name]} has no effect with --label-column")


def _training_samples(
    log: str, patience: int | None, seed: int, options: dict[str, Any]
) -> tuple[ClickSamples, ClickSamples | None, ItemVocabulary]:
    """Read the log, and what to validate with; None: the trainer splits it off if need be."""
    from seqrec_fast.data import build_sessions, click_samples, read_log, split_leave_one_out

    columns, label = options["columns"], options["label_column"]
    rows = read_log(log, label_column=label, **columns)
    later = options["valid"] and read_log(options["valid"], label_column=label, **columns)
    support = options["min_item_support"]
    valid = None
    if label is not None:
        train, vocabulary, report = click_samples(rows, min_item_support=support)
        click.echo(f"{log}: {report}")
        if later:
            valid, _, report = click_samples(later, history=rows, vocabulary=vocabulary)
            click.echo(f"{options['valid']}: {report}")
    else:
        sessions, vocabulary, report = build_sessions(
            rows, min_item_support=support, min_session_length=options["min_session_length"]
        )
        click.echo(f"{log}: {report}")
        if options["leave_one_out"]:
            sessions, last, _ = split_leave_one_out(sessions)
            if patience is not None:
                valid = _drawn(last, len(vocabulary), "last", seed, options)
        elif later:
            last, _, report = build_sessions(later, vocabulary=vocabulary)
            click.echo(f"{options['valid']}: {report}")
            valid = _drawn(last, len(vocabulary), "all", seed, options)
        train = _drawn(sessions, len(vocabulary), "all", seed, options)
    click.echo(f"trains with {train}")
    return train, valid, vocabulary


def _test_samples(
    vocabulary: ItemVocabulary, log: str, options: dict[str, Any]
) -> tuple[ClickSamples, FilterReport]:
    from seqrec_fast.data import build_sessions, click_samples, read_log, split_leave_one_out

    columns, label = options["columns"], options["label_column"]
    rows = read_log(log, label_column=label, **columns)
    if label is not None:
        past = options["history"] and read_log(options["history"], label_column=label, **columns)
        samples, _, report = click_samples(rows, history=past or None, vocabulary=vocabulary)
        return samples, report
    if options["history"]:
        raise click.UsageError("--history needs --label-column")
    sessions, _, report = build_sessions(rows, vocabulary=vocabulary)
    if options["leave_one_out"]:
        sessions = split_leave_one_out(sessions)[2]
    if len(sessions) == 0:
        raise ValueError(f"evaluate: {log} leaves no session to predict in: {report}")
    targets = "last" if options["last_only"] or options["leave_one_out"] else "all"
    return _drawn(sessions, len(vocabulary), targets, 0, options), report


def _drawn(
    sessions: Sessions, n_items: int, targets: str, seed: int, options: dict[str, Any]
) -> ClickSamples:
    from seqrec_fast.data import sampled_clicks

    popularity = None
    if options["negatives_by"] == "popularity":
        popularity = np.bincount(sessions.items, minlength=n_items)
    return sampled_clicks(
        sessions, n_items, targets=targets, n_negatives=options["n_negatives"],
        popularity=popularity, seed=seed,
    )  # fmt: skip
