"""``seqrec-fast convert``."""

from __future__ import annotations

import click

from seqrec_fast.cli._options import check_output


@click.group(short_help="Make a model file from a checkpoint of another program.")
def convert() -> None:
    """Make a model file from a checkpoint of another program.

    \b
    Examples:
      seqrec-fast convert gru4rec gru4rec.pt model.safetensors
    """  # noqa: D301 - a mark for click


@convert.command(short_help="Convert a checkpoint of the official PyTorch GRU4Rec.")
@click.argument("checkpoint", type=click.Path())
@click.argument("out", type=click.Path())
def gru4rec(checkpoint: str, out: str) -> None:
    """Convert CHECKPOINT, written by the official PyTorch GRU4Rec, to the model file OUT.

    Models with a constrained, a separate and no embedding are converted; their scores and item
    ids stay the same. CHECKPOINT is a pickle: it is read as data and no code in it is run.

    \b
    Examples:
      seqrec-fast convert gru4rec gru4rec.pt model.safetensors
    """  # noqa: D301 - a mark for click
    from seqrec_fast.convert import gru4rec as converted

    check_output(out, checkpoint, option="OUT")
    file = converted(checkpoint, out)
    config = file.config
    click.echo(
        f"{out}: {len(file.item_ids):,} items, {config['num_layers']} x {config['hidden_size']} "
        f"GRU, {config['embedding']} embedding"
    )
