"""``seqrec-fast info``."""

from __future__ import annotations

import os

import click


@click.command(short_help="Print what a model file holds, or what this build is.")
@click.argument("model", type=click.Path(), required=False)
def info(model: str | None) -> None:
    """Print what a model file holds; without MODEL, what a bug report needs.

    \b
    Examples:
      seqrec-fast info model.safetensors
      seqrec-fast info
    """  # noqa: D301 - a mark for click
    if model is None:
        from seqrec_fast.config import show_config

        show_config()
        return
    from seqrec_fast.io import load_model

    file = load_model(model)
    ids = file.item_ids
    kind = "integers" if ids.dtype.kind == "i" else "strings"
    examples = ", ".join(map(str, ids[:3].tolist()))
    facts = {
        "file": model,
        "size": f"{os.path.getsize(model):,} bytes",
        "format_version": file.format_version,
        "model": file.model,
        **file.config,
        "parameters": f"{sum(tensor.size for tensor in file.tensors.values()):,}",
        "item ids": f"{len(ids):,} {kind}, such as {examples}",
    }
    for name, value in facts.items():
        click.echo(f"{name}: {value}")
