"""Fused recurrent layers, exact top-k and session recommenders on the CPU, without PyTorch."""

from __future__ import annotations

try:
    from . import _core
except ImportError as error:  # pragma: no cover - a broken or missing build
    error.add_note(
        "seqrec_fast: the compiled part is missing; install the package with `pip install .`"
    ) if hasattr(error, "add_note") else None
    raise

from . import config
from .config import (
    force_target,
    get_num_threads,
    set_num_threads,
    show_config,
    supported_targets,
)

__version__: str = _core.__version__
