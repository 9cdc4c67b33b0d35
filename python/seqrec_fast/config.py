"""What this build is, what this machine can run, and the process-wide settings."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any

from . import _core


def get_num_threads() -> int:
    """Threads that kernels may use, the calling one included."""
    return _core.num_threads()


def set_num_threads(n: int) -> None:
    """
    Set how many threads kernels may use; results do not depend on it.

    Parameters
    ----------
    n : int
        1 to 1024. At first ``SEQREC_FAST_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the
        processors of this process.

    Raises
    ------
    ValueError
        If `n` is out of range.
    """
    _core.set_num_threads(n)


def active_target() -> str:
    """Name of the CPU target that kernels use: scalar, sse4, avx2, avx512 or neon."""
    return _core.active_target()


def supported_targets() -> list[str]:
    """CPU targets that this build has and this machine can run, the widest last."""
    return _core.supported_targets()


class force_target(contextlib.ContextDecorator):
    """
    Make kernels use one CPU target, for good or, as a context manager, for a while.

    Parameters
    ----------
    name : str
        One of :func:`supported_targets`; ``"auto"`` means the widest. The environment variable
        ``SEQREC_FAST_TARGET`` does the same from the start.

    Raises
    ------
    ValueError
        If this build lacks the target or this machine cannot run it. Nothing is changed then.

    Examples
    --------
    >>> import seqrec_fast as sf
    >>> with sf.force_target(sf.supported_targets()[0]):
    ...     name = sf.config.active_target()
    >>> name == sf.supported_targets()[0]
    True
    """

    def __init__(self, name: str) -> None:
        self._before = _core.active_target()
        _core.force_target(name)

    def __enter__(self) -> force_target:
        return self

    def __exit__(self, *exc: object) -> None:
        _core.force_target(self._before)


def supported_backends(precision: str) -> list[str]:
    """
    Back ends of ``"bfloat16"`` or ``"int8"`` products on this machine, the best last.

    ``amx_emulated`` computes what AMX does in plain C++, for tests.
    """
    return _core.supported_backends(precision)


def active_backend(precision: str) -> str:
    """Name of the back end that ``"bfloat16"`` or ``"int8"`` products use."""
    return _core.active_backend(precision)


# What was asked for last of each precision: the extension only tells what came of it, which under
# "auto" follows the CPU target.
_wanted_backends = {
    precision: os.environ.get(f"SEQREC_FAST_{precision.upper()}") or "auto"
    for precision in ("bfloat16", "int8")
}


class force_backend(contextlib.ContextDecorator):
    """
    Make products of one precision use one back end, for good or, as a context manager, for a while.

    At the end of the context the back end is again what was wanted before, be it by an outer
    context or by the environment.

    Parameters
    ----------
    precision : str
        ``"bfloat16"`` or ``"int8"``.
    name : str
        One of :func:`supported_backends`; ``"auto"`` means the best that the active CPU target
        allows. The environment variables ``SEQREC_FAST_BFLOAT16`` and ``SEQREC_FAST_INT8`` do the
        same from the start.

    Raises
    ------
    ValueError
        If this machine cannot run the back end. Nothing is changed then.
    """

    def __init__(self, precision: str, name: str) -> None:
        _core.force_backend(precision, name)
        self._precision, self._before = precision, _wanted_backends[precision]
        _wanted_backends[precision] = name

    def __enter__(self) -> force_backend:
        return self

    def __exit__(self, *exc: object) -> None:
        _core.force_backend(self._precision, self._before)
        _wanted_backends[self._precision] = self._before


def show_config(*, as_dict: bool = False) -> dict[str, Any] | None:
    """
    Print the facts that a bug report needs, or return them.

    Parameters
    ----------
    as_dict : bool
        Return a dict instead of printing.
    """
    config: dict[str, Any] = {
        **_core.build_info(),
        "compiled_targets": _core.compiled_targets(),
        "supported_targets": _core.supported_targets(),
        "active_target": _core.active_target(),
        "backends_bfloat16": _core.supported_backends("bfloat16"),
        "backends_int8": _core.supported_backends("int8"),
        "threads": _core.num_threads(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if as_dict:
        return config
    for key, value in config.items():
        print(f"{key}: {', '.join(value) if isinstance(value, list) else value}")
    return None
