"""AUGRU and its relatives for NumPy arrays, from the weights of :class:`seqrec_fast.nn.AUGRU`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from .layers import Array, _RecurrentLayer

__all__ = ["AUGRU"]

MODES = ("augru_paper", "augru_tf", "agru", "aigru")


def cell_of_mode(function: str, mode: str) -> str:
    """
    Name of the cell, as the kernels know it.

    Raises
    ------
    ValueError
        If `mode` is unknown; `function` names the caller.
    """
    if mode not in MODES:
        raise ValueError(
            f"{function}: mode is {mode!r}; expected {', '.join(MODES[:-1])} or {MODES[-1]}"
        )
    return "gru" if mode == "aigru" else mode  # of scaled inputs


class AUGRU(_RecurrentLayer):
    """
    GRU with attentional update gate; build it with :meth:`from_state_dict`.

    Examples
    --------
    >>> import numpy as np, seqrec_fast as sf
    >>> rng = np.random.default_rng(0)
    >>> weights = {"weight_ih_l0": rng.normal(size=(12, 3)), "weight_hh_l0": np.zeros((12, 4))}
    >>> layer = sf.AUGRU.from_state_dict(weights, mode="augru_tf")
    >>> y, h_n = layer(np.zeros((5, 2, 3), np.float32), np.ones((5, 2), np.float32))
    >>> y.shape, h_n.shape
    ((5, 2, 4), (1, 2, 4))
    """

    mode: str

    @classmethod
    def from_state_dict(
        cls,
        arrays: Mapping[str, ArrayLike],
        *,
        mode: str = "augru_paper",
        precision: str = "float32",
        prefix: str = "",
    ) -> AUGRU:
        """
        Build the layer from the parameters of its PyTorch twin, which are those of a GRU.

        Parameters
        ----------
        arrays, precision, prefix
            As in :meth:`GRU.from_state_dict`; one layer in one direction. int8 takes attention
            scores from 0 to 1.
        mode : str
            As in :class:`seqrec_fast.nn.AUGRU`.

        Raises
        ------
        ValueError
            As :meth:`GRU.from_state_dict`, and for an unknown mode or more than one layer.
        """
        name = "AUGRU.from_state_dict"
        layer = cls._built(cell_of_mode(name, mode), arrays, precision, prefix, None, 0)
        if layer.num_layers > 1 or layer.bidirectional:
            raise ValueError(
                f"{name}: arrays have {layer.num_layers} layers, bidirectional is "
                f"{layer.bidirectional}; expected one layer in one direction"
            )
        layer.mode = mode
        return layer

    def __call__(  # type: ignore[override]
        self,
        x: ArrayLike,
        attention: ArrayLike,
        h0: Array | None = None,
        offsets: ArrayLike | None = None,
        *,
        outputs: str = "all",
    ) -> tuple[Array, Array]:
        """
        Run the layer over a batch of sequences.

        Parameters
        ----------
        x : (T, B, I) array, or (events, I) with `offsets`
            Of the layer's precision (float32 or float64).
        attention : (T, B) array, or (events,) with `offsets`
            A score per event, of the same dtype.
        h0 : (1, B, H) array, optional
            Initial state, zeros if absent. A session that comes event by event starts each call
            from the `h_n` of the last one, and gets the bits that it gets whole.
        offsets : (B + 1,) integer array, optional
            Makes `x` ragged, as in :meth:`GRU.__call__`.
        outputs : str
            ``"all"``: `y` has the states after every event. ``"last"``: only the final ones.

        Returns
        -------
        y : (T, B, H) or (events, H) array
            (B, H) with ``outputs="last"``.
        h_n : (1, B, H) array

        Raises
        ------
        TypeError
            If `x` or `attention` has another dtype.
        ValueError
            If a shape does not fit, `outputs` is unknown, or offsets are not a partition of the
            rows of `x`.
        """
        values, scores = np.asarray(x), np.asarray(attention)
        if scores.dtype != self._dtype:
            raise TypeError(f"AUGRU: attention is {scores.dtype}; expected {self._dtype}")
        if scores.shape != values.shape[:-1]:
            raise ValueError(
                f"AUGRU: attention has shape {scores.shape}; expected {values.shape[:-1]}, that of "
                "x without its last dimension"
            )
        if self.mode == "aigru":
            values, flat = values * scores[..., None], None
        else:
            flat = np.ascontiguousarray(scores.reshape(-1), self._working)
        y, h_n, _ = self._run(values, h0, None, offsets, outputs, flat)
        return y, h_n
