"""The command ``seqrec-fast``; what is heavy to import is imported where it is used."""

from __future__ import annotations

import re
from typing import Any

import click

from seqrec_fast.cli.convert import convert
from seqrec_fast.cli.demo import demo
from seqrec_fast.cli.evaluate import evaluate
from seqrec_fast.cli.info import info
from seqrec_fast.cli.recommend import recommend
from seqrec_fast.cli.train import train

__all__ = ["main"]


class _Commands(click.Group):
    """Turns the errors of bad input into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            if ctx.params["debug"]:
                raise
            raise click.ClickException(_with_flags(str(error))) from error


def _with_flags(message: str) -> str:
    """Name options as the command line has them, where a message names arguments."""
    message = re.sub(
        r"\((name it with|from) (session|item|time|label)_column(?:=\.\.\.)?\)",
        r"(\1 --\2-column)",
        message,
    )
    return re.sub(r"\bformat='(auto|table|pairs|lines)'", r"--format \1", message)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="seqrec-fast")
@click.option("--debug", is_flag=True, help="Show where in the program an error arose.")
def main(debug: bool) -> None:
    """Train, evaluate and serve recommenders of the next item in a session.

    \b
    Examples:
      seqrec-fast demo
      seqrec-fast train clicks.tsv --out model.safetensors
      seqrec-fast evaluate model.safetensors test.tsv
      seqrec-fast recommend model.safetensors sessions.parquet --out recs.parquet
    """  # noqa: D301 - a mark for click


for _command in (demo, train, evaluate, recommend, convert, info):
    main.add_command(_command)
