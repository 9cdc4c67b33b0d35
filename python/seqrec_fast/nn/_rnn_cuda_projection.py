"""
The projection of an LSTM on CUDA, around a loop that knows nothing of it.

With u = o * tanh(c) and h = W_hr u, W_hh h is (W_hh W_hr) u: an LSTM with the recurrent weights
W_hh W_hr, whose outputs are projected all at once. Only h_0 need not be of the form W_hr u: W_hh
h_0 joins the input gates of the first event of each session, and the loop starts from zeros.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._tensors import product


class Ends:
    """
    Where each session's first and last event are, in the order in which they are processed.

    Parameters
    ----------
    sequences
        The layout, as ``_rnn_cuda_ops._sequences`` returns it.
    events
        Number of rows.
    reset : (events,) uint8 Tensor, optional
    """

    def __init__(
        self, sequences: tuple[Any, ...], events: int, reverse: bool, reset: Tensor | None,
        like: Tensor,
    ) -> None:  # fmt: skip
        _, batch, steps, batch_first, first, step, length, _ = sequences
        place = torch.arange(batch, device=like.device)
        if length is None:
            length = torch.full_like(place, steps)
        newest = (length - 1).clamp(min=0)
        if first is not None:
            oldest, newest = first, first + newest
            # what kernels do with offsets that lead out of the arrays: nothing
            self._has = (length > 0) & (first >= 0) & (first + length <= events)
        else:
            self._has = length > 0
            if step is not None:
                oldest, newest = place, step[newest] + place
            elif batch_first:
                oldest, newest = place * steps, place * steps + newest
            else:
                oldest, newest = place, newest * batch + place
        most = max(events - 1, 0)
        self._first = (newest if reverse else oldest).clamp(0, most)
        self._last = (oldest if reverse else newest).clamp(0, most)
        self._starts = (
            self._has if reset is None or not events else self._has & (reset[self._first] == 0)
        )

    def add_at_first(self, rows: Tensor, values: Tensor) -> None:
        """Add (B, W) to the rows of the first events, where sessions start from h_0."""
        if rows.shape[0]:
            # of all that is added to a row at most one is not 0: the order does not matter
            rows.index_add_(0, self._first, values * self._starts.unsqueeze(1))

    def at_first(self, rows: Tensor) -> Tensor:
        """Return the rows of the first events, 0 where sessions do not start from h_0."""
        return self._at(rows, self._first, self._starts)

    def at_last(self, rows: Tensor) -> Tensor:
        """Return the rows of the last events, 0 for empty sessions."""
        return self._at(rows, self._last, self._has)

    def unless_empty(self, values: Tensor, otherwise: Tensor) -> Tensor:
        """Return `values` of the sessions that have events, `otherwise` of the empty ones."""
        return torch.where(self._has.unsqueeze(1), values, otherwise)

    @staticmethod
    def _at(rows: Tensor, index: Tensor, there: Tensor) -> Tensor:
        if not rows.shape[0]:
            return rows.new_zeros(index.shape[0], rows.shape[1])
        return torch.where(there.unsqueeze(1), rows[index], rows.new_zeros(()))


def combined_weights(weight_hh: Tensor, weight_hr: Tensor) -> Tensor:
    """Return W_hh W_hr, (4 H, H); of 16-bit weights in float32."""
    if weight_hh.dtype in (torch.float16, torch.bfloat16):
        weight_hh, weight_hr = weight_hh.float(), weight_hr.float()
    return weight_hh @ weight_hr


class ProjectionGrads:
    """
    Gradients with respect to what the loop does not know.

    Parameters
    ----------
    dgates : (events, 4 H) Tensor
        Of the sums of the gates.
    dcombined : (4 H, H) Tensor
        Of W_hh W_hr through the loop; None where no gradient of weights is asked for.
    """

    def __init__(
        self, ends: Ends, weight_hh: Tensor, weight_hr: Tensor, dgates: Tensor,
        dcombined: Tensor | None, precision: str,
    ) -> None:  # fmt: skip
        self._ends, self._weight_hh, self._weight_hr = ends, weight_hh, weight_hr
        self._dfirst = ends.at_first(dgates)
        self._dcombined = weight_hh.new_empty(0) if dcombined is None else dcombined
        self._precision = precision

    def of_h_0(self, dh_n: Tensor) -> Tensor:
        dh_0 = product(self._dfirst, self._weight_hh, self._precision)
        return self._ends.unless_empty(dh_0, dh_n)

    def of_weight_hh(self, h_0: Tensor) -> Tensor:
        through_loop = product(self._dcombined, self._weight_hr.t(), self._precision)
        return through_loop + product(self._dfirst.t(), h_0, self._precision)

    def of_weight_hr(self, dy: Tensor, dh_n: Tensor, u: Tensor) -> Tensor:
        """`u`: o * tanh(c) of all events."""
        through_loop = product(self._weight_hh.t(), self._dcombined, self._precision)
        dh_n = self._ends.unless_empty(dh_n, torch.zeros_like(dh_n))
        outputs = product(dy.t(), u, self._precision)
        return through_loop + outputs + product(dh_n.t(), self._ends.at_last(u), self._precision)
