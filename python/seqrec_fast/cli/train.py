"""``seqrec-fast train``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

import click

from seqrec_fast._model_format import EMBEDDINGS, GATES
from seqrec_fast.augru import MODES
from seqrec_fast.cli._click_through import (
    CLICK_MODELS,
    CLICK_OPTIONS,
    THEME_OPTIONS,
    given_options,
    sample_options,
    train_click_through,
)
from seqrec_fast.cli._options import (
    check_output,
    exclude_seen_option,
    log_options,
    threads_option,
)
from seqrec_fast.cli._training import resumes, train_and_export

if TYPE_CHECKING:
    from seqrec_fast.data import ItemVocabulary, Sessions
    from seqrec_fast.training import TrainingOptions

Command = TypeVar("Command", bound=Callable[..., Any])

# Name, type or choices, default (None: see the help), help. The names are those of the
# parameters of GRU4Rec and of the fields of TrainingOptions.
_MODEL = (
    ("cell", list(GATES), "gru", "Recurrent cell."),
    (
        "embedding",
        list(EMBEDDINGS),
        "tied",
        "Item embeddings: one table for input and one for output, one for both (where widths "
        "differ, the hidden state is projected to --embedding-dim), or rows of input gates "
        "instead of an input table.",
    ),
    ("embedding_dim", int, None, "Width of the input embedding; by default --hidden-size."),
    ("hidden_size", int, 100, "Width of the hidden state."),
    ("num_layers", int, 1, "Recurrent layers."),
    ("dropout_embedding", float, 0.2, "Dropout of the input."),
    ("dropout_hidden", float, 0.2, "Dropout of the hidden states."),
)
# Of single models, with the names and defaults of their parameters.
_OF_SOME_MODELS = (
    ("n_themes", int, 8, "Themes of --model theme-mixture; 0: none, for comparison."),
    ("k", int, 1, "Themes that an event goes to, with --model theme-mixture."),
    (
        "session_gap",
        float,
        1800.0,
        "A session ends where more than so many seconds pass, with --model theme-mixture.",
    ),
    (
        "attention_mode",
        list(MODES),
        "augru_tf",
        "What the second layer of --model dien does with the attention.",
    ),
    ("auxiliary_weight", float, 0.0, "Of the auxiliary loss, with --model dien."),
)
_TRAINING = (
    ("epochs", int, 8, "Passes over the log, at most."),
    ("batch_size", int, 64, "Sessions in a mini-batch."),
    (
        "batching",
        ["whole-session", "session-parallel"],
        "whole-session",
        "Mini-batches of whole sessions, or of one event each of sessions that run in parallel.",
    ),
    ("max_length", int, 50, "Longest stretch of a session in a whole-session mini-batch."),
    ("bptt", int, 1, "Events of a session in a session-parallel mini-batch."),
    (
        "loss",
        ["auto", "full", "sampled", "bpr-max"],
        "auto",
        "Cross-entropy over the whole catalogue, or over the targets of the mini-batch and "
        "shared negatives, or BPR-max over these; auto: the whole catalogue up to 10,000 items, "
        "else sampled.",
    ),
    ("n_sample", int, 2048, "Negatives a mini-batch, with --loss sampled or bpr-max."),
    ("alpha", float, 0.5, "They are drawn in proportion to popularity ** alpha."),
    ("logq", float, 1.0, "Strength of the correction for that, with --loss sampled, 0 to 1."),
    (
        "collisions",
        ["mask", "own"],
        "mask",
        "A negative that happens to be the target: leave it out, or leave out only the event's "
        "own target in the mini-batch, as the official GRU4Rec does.",
    ),
    ("bpreg", float, 1.0, "Penalty for high scores of negatives, with --loss bpr-max."),
    ("elu", float, 0.5, "Alpha of the ELU on the scores, with --loss bpr-max; 0: none."),
    ("optimizer", ["adam", "adagrad", "sgd"], "adam", "Optimiser."),
    (
        "lr",
        float,
        None,
        "Learning rate at the start; by default 0.02 (adam), 0.07 (adagrad) or 0.1 (sgd).",
    ),
    ("weight_decay", float, None, "Of --optimizer adam; by default 0.15."),
    ("momentum", float, 0.0, "Of --optimizer adagrad and sgd, 0 to less than 1."),
    (
        "average_epochs",
        int,
        1,
        "The model is the mean of the parameters after each of the last so many epochs.",
    ),
    ("patience", int, None, "Validate after each epoch; stop after so many without progress."),
    ("monitor", ["recall@20", "mrr@20", "ndcg@20"], "recall@20", "What counts as progress."),
    ("seed", click.IntRange(0, 2**63 - 1), 0, "Fixes the result."),
    (
        "device",
        str,
        None,
        "auto, cpu, cuda or cuda:N; by default cpu. With cuda each process of torchrun has a GPU; "
        "auto is cuda where there is a GPU and this package is built for it, else cpu.",
    ),
)

# Theme mixture for the next item: options of the model, and other defaults of the training, since a
# history has to be whole.
_MIXTURE = ("hidden_size", "dropout_embedding", "dropout_hidden", *THEME_OPTIONS)
_LONG_HISTORIES = {"batch_size": 16, "max_length": 2000}
_LONG_HISTORIES_ADAM = {"lr": 0.01, "weight_decay": 0.1}


def _options(table: tuple[Any, ...]) -> Callable[[Command], Command]:
    """Add the options of a table; the command gets them under their names."""

    def decorate(command: Command) -> Command:
        for name, kind, default, text in reversed(table):
            choice = click.Choice(kind) if isinstance(kind, list) else kind
            flag = "--layers" if name == "num_layers" else "--" + name.replace("_", "-")
            command = click.option(
                flag, name, type=choice, default=default, show_default=True, help=text
            )(command)
        return command

    return decorate


@click.command(short_help="Train a recommender on a log.")
@click.argument("log", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Model file to write.")
@click.option(
    "--model",
    type=click.Choice(["gru4rec", *CLICK_MODELS]),
    default="gru4rec",
    show_default=True,
    help="A recommender of the next item (gru4rec), or a click-through model, which tells how "
    "likely an item is clicked; theme-mixture is one or the other, see --task.",
)
@click.option(
    "--task",
    type=click.Choice(["click-through", "next-item"]),
    default="click-through",
    show_default=True,
    help="What --model theme-mixture is for. With next-item some defaults are others, since whole "
    "histories are learnt from: --batch-size 16, --max-length 2000, --hidden-size 64, and for adam "
    "--lr 0.01, --weight-decay 0.1.",
)
@_options(_MODEL)
@_options(_OF_SOME_MODELS)
@_options(_TRAINING)
@click.option(
    "--lr-decay/--no-lr-decay", default=True, show_default=True, help="Lower --lr to 0 by the end."
)
@click.option(
    "--carry-dropout",
    is_flag=True,
    default=False,
    help="Session-parallel lanes go on from states that dropout has acted on, as in the official "
    "GRU4Rec.",
)
@click.option("--valid", type=click.Path(), help="Log to validate with after each epoch.")
@click.option(
    "--valid-fraction",
    "validation",
    type=float,
    default=0.1,
    show_default=True,
    help="Share of the sessions, the last ones, to validate with if there is a --patience and "
    "no --valid.",
)
@click.option(
    "--leave-one-out",
    is_flag=True,
    help="Hold out the last two events of each session: the second to last to validate with "
    "(if there is a --patience), the last for `evaluate --leave-one-out`.",
)
@exclude_seen_option("Validate without the items of the history.")
@click.option("--min-item-support", default=1, show_default=True, help="Drop rarer items.")
@click.option("--min-session-length", default=2, show_default=True, help="Drop shorter sessions.")
@sample_options
@click.option("--checkpoint", type=click.Path(), help="File to write after each epoch.")
@click.option("--resume", is_flag=True, help="Go on from --checkpoint, where it exists.")
@threads_option
@log_options
def train(log: str, out: str, threads: int | None, **options: Any) -> None:
    """Train a recommender on the interactions in the file LOG.

    LOG is CSV, TSV or Parquet with columns such as SessionId, ItemId, Time, or text with a
    `user item` pair or a session in each line. After Ctrl-C, or a crash, the same command with
    --resume goes on after the last epoch in --checkpoint. Click-through models learn from the rows
    of LOG with their labels, or, without --label-column, from its events and items drawn at random;
    where an option below is not given, the defaults of seqrec_fast.models and of
    ClickThroughOptions hold for them. `torchrun --nproc-per-node N -m seqrec_fast train ...`
    divides each mini-batch among N processes.

    \b
    Examples:
      seqrec-fast train clicks.tsv --out model.safetensors
      seqrec-fast train clicks.parquet --out model.safetensors --session-column visitor \\
          --cell lstm --hidden-size 128 --patience 2 --checkpoint run.ckpt --resume
      seqrec-fast train ratings.tsv.gz --out model.safetensors --leave-one-out --loss sampled
      seqrec-fast train impressions.tsv --model din --label-column click --out din.safetensors
      seqrec-fast train ratings.tsv.gz --model dien --leave-one-out --negatives 4 --patience 1 \\
          --out dien.safetensors
      seqrec-fast train histories.tsv.gz --model theme-mixture --task next-item --epochs 4 \\
          --leave-one-out --out themes.safetensors
    """  # noqa: D301 - a mark for click
    _check(log, out, options)
    _require_torch(threads)
    from seqrec_fast.training.devices import find_device
    from seqrec_fast.training.distributed import launched

    if options["device"] is not None:
        find_device("train", options["device"])  # before the log is read
    with launched() as first, nullcontext() if first else redirect_stdout(None):
        train_model = _train if _is_next_item(options) else train_click_through
        train_model(log, out if first else None, options)


def _is_next_item(options: dict[str, Any]) -> bool:
    model, task = options["model"], options["task"]
    return bool(model == "gru4rec" or (model == "theme-mixture" and task == "next-item"))


def _train(log: str, out: str | None, options: dict[str, Any]) -> None:
    """Train, and write the model; None: another process does."""
    from seqrec_fast.models import GRU4Rec, ThemeMixture
    from seqrec_fast.training import Trainer, TrainingOptions

    given = _given(options)
    names = [*(name for name, *_ in _TRAINING), "lr_decay", "carry_dropout", "validation"]
    values = {name: options[name] for name in names}
    if options["model"] == "gru4rec":
        make: Any = GRU4Rec
        sizes = {name: options[name] for name, *_ in _MODEL}
        sizes["embedding_dim"] = sizes["embedding_dim"] or sizes["hidden_size"]
    else:
        make = ThemeMixture
        sizes = {name: options[name] for name in _MIXTURE if name in given}
        defaults = _LONG_HISTORIES | (
            _LONG_HISTORIES_ADAM if options["optimizer"] == "adam" else {}
        )
        values |= {name: value for name, value in defaults.items() if name not in given}
    training = TrainingOptions(**values)
    train, valid, vocabulary = _sessions(log, training, options)
    model = make(len(vocabulary), seed=training.seed, **sizes)
    train_and_export(
        model,
        vocabulary,
        out,
        training.epochs,
        lambda report: Trainer(model, training).fit(
            train,
            valid,
            valid_targets="last" if options["leave_one_out"] else "all",
            exclude_seen=options["exclude_seen"],
            checkpoint=options["checkpoint"],
            resume=resumes(options),
            progress=None,
            on_epoch=report,
        ),
    )


def _check(log: str, out: str, options: dict[str, Any]) -> None:
    """Raise for what can be known to fail before the log is read."""
    if _is_next_item(options):
        _given(options)
    inputs = [log] if options["valid"] is None else [log, options["valid"]]
    check_output(out, *inputs)
    if (checkpoint := options["checkpoint"]) is not None:
        check_output(checkpoint, *inputs, option="--checkpoint")
        if os.path.realpath(checkpoint) == os.path.realpath(out):
            raise click.UsageError(f"--checkpoint and --out are both {out}; expected two files")
    elif options["resume"]:
        raise click.UsageError("--resume needs --checkpoint, the file to go on from")
    if options["valid"] and options["leave_one_out"]:
        raise click.UsageError("--valid and --leave-one-out exclude each other")


def _given(options: dict[str, Any]) -> dict[str, str]:
    """Return the options on the command line; raise for one without effect on a next-item model."""
    if options["model"] == "gru4rec":
        others = (*CLICK_OPTIONS, *THEME_OPTIONS, "task")
        given = given_options("gru4rec", lambda option: option not in others)
        if options["embedding"] == "none" and "embedding_dim" in given:
            raise click.UsageError("--embedding-dim has no effect with --embedding none")
        return given
    without = {name for name, *_ in _MODEL} - set(_MIXTURE) | {"batching", "bptt", "carry_dropout"}
    name = f"{options['model']} for the next item"
    return given_options(name, lambda option: option not in (*CLICK_OPTIONS, *without))


def _require_torch(threads: int | None) -> None:
    try:
        import torch
    except ImportError as error:
        raise ImportError("train needs PyTorch: pip install seqrec-fast[train]") from error
    if threads is not None:
        torch.set_num_threads(threads)


def _sessions(
    log: str, training: TrainingOptions, options: dict[str, Any]
) -> tuple[Sessions, Sessions | None, ItemVocabulary]:
    """Read the log, and what to validate with; None: the trainer splits it off if need be."""
    from seqrec_fast.data import build_sessions, read_log, split_leave_one_out

    if options["valid"] is not None:
        valid_log = read_log(options["valid"], **options["columns"])
    sessions, vocabulary, report = build_sessions(
        read_log(log, **options["columns"]),
        min_item_support=options["min_item_support"],
        min_session_length=options["min_session_length"],
    )
    click.echo(f"{log}: {report}")
    if options["valid"] is not None:
        valid, _, report = build_sessions(valid_log, vocabulary=vocabulary)
        click.echo(f"{options['valid']}: {report}")
        return sessions, valid, vocabulary
    if options["leave_one_out"]:
        train, valid, _ = split_leave_one_out(sessions)
        return train, valid if training.patience else None, vocabulary
    return sessions, None, vocabulary
