"""Options that several commands share."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_LOG_OPTIONS = (
    click.option(
        "--format",
        type=click.Choice(["auto", "table", "pairs", "lines"]),
        default="auto",
        show_default=True,
        help="A table with column names (CSV, TSV, Parquet), `user item` pairs without a header, "
        "or one session per line.",
    ),
    click.option("--session-column", metavar="NAME", help="Column of the session or user ids."),
    click.option("--item-column", metavar="NAME", help="Column of the item ids."),
    click.option("--time-column", metavar="NAME", help="Column of the times."),
)


def log_options(command: Command) -> Command:
    """Add the options that say how to read a log; the command gets them as ``columns``."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> Any:
        names = ("format", "session_column", "item_column", "time_column")
        columns = {name: options.pop(name) for name in names}
        return command(columns=columns, **options)

    for option in reversed(_LOG_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


class _Renamed(click.Option):
    """Understands older names, which follow the one that the help shows."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        shown = copy.copy(self)
        shown.opts = self.opts[:1]
        return click.Option.get_help_record(shown, ctx)


def exclude_seen_option(text: str) -> Callable[[Command], Command]:
    """Add ``--exclude-seen`` with this help."""
    return click.option("--exclude-seen", "--filter-seen", cls=_Renamed, is_flag=True, help=text)


def integer_list(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Turn ``"5,10"`` into ``(5, 10)``."""
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of integers such as 10,20") from None
    if min(numbers) < 1:
        raise click.BadParameter(f"{min(numbers)} is below 1")
    return numbers


def set_threads(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    """Size the thread pool as soon as the option is read."""
    if value is not None:
        from seqrec_fast.config import set_num_threads

        set_num_threads(value)
    return value


threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    callback=set_threads,
    help="Threads to use; by default SEQREC_FAST_NUM_THREADS, else OMP_NUM_THREADS, else all "
    "processors.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="Weights and products of the recurrent layers.",
)

device_option = click.option(
    "--device",
    metavar="DEVICE",
    help="cuda, cuda:N or auto: run the model with PyTorch on a GPU (auto: if there is one that "
    "this package is built for); by default without PyTorch on the CPU.",
)

model_argument = click.argument("model", type=click.Path())


def module_on(command: str, model: str, device: str | None, precision: str) -> Any:
    """Return the module and the vocabulary of a file on a GPU; None: it is for the CPU."""
    if device is None or device == "cpu":
        return None
    try:
        from seqrec_fast.models import load_module
        from seqrec_fast.training.devices import find_device
    except ImportError as error:
        raise ImportError(
            f"{command} --device needs PyTorch: pip install seqrec-fast[train]"
        ) from error
    found = find_device(command, device)
    if found.type == "cpu":
        return None
    if precision != "float32":
        raise click.UsageError(f"--precision {precision} is for the CPU; expected float32 on CUDA")
    return load_module(model, found)


def check_output(path: str, *inputs: str, option: str = "--out") -> None:
    """Raise before hours of work if a file could not be written at the end of them."""
    if not os.path.basename(path):
        raise ValueError(f"{option} {path} is the name of a folder; expected that of a file")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{option} {path}: no folder {folder}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{option} {path} is a folder; expected a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{option} {path} exists and is no regular file")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{option} {path} cannot be written")
    for name in inputs:
        if os.path.exists(path) and os.path.exists(name) and os.path.samefile(path, name):
            raise ValueError(f"{option} {path} is an input, too; expected another file")


def progress(**arguments: Any) -> Any:
    """Make a progress bar on the error stream, silent where that is no terminal."""
    from tqdm import tqdm

    return tqdm(disable=None, dynamic_ncols=True, **arguments)
