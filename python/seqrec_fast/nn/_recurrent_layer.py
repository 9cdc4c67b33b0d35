"""What GRU, LSTM and RNN share: the forms of the input, layers and directions, precision, noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from seqrec_fast._packing import RNN_PARAMETERS

from ._checks import check_dtype, check_offsets, check_tensor
from ._rnn_autograd import rnn_forward
from ._rnn_call import RnnCall
from ._variational import variational_mask

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
State = Tensor | tuple[Tensor, Tensor]


class _Input(NamedTuple):
    """An input of any accepted form as (events, I) or (T, B, I) values and their layout."""

    values: Tensor
    batch: int
    offsets: Tensor | None = None
    batch_sizes: Tensor | None = None
    batch_first: bool = False
    reset: Tensor | None = None
    sessions: Tensor | None = None  # where each session of a sorted batch was before
    attention: Tensor | None = None  # of the cells that have it; values without the last dimension


class RecurrentLayer(torch.nn.RNNBase):
    """Base of GRU, LSTM and RNN."""

    _gates: int
    # Of modules that were saved before they had them.
    recurrent_dropout = zoneout = variational_dropout = 0.0

    def __init__(
        self,
        mode: str,
        input_size: int | None,
        hidden_size: int,
        recurrent_dropout: float,
        zoneout: float,
        variational_dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(mode, 1 if input_size is None else input_size, hidden_size, **kwargs)
        self.recurrent_dropout = self._rate("recurrent_dropout", recurrent_dropout)
        self.zoneout = self._rate("zoneout", zoneout)
        self.variational_dropout = self._rate("variational_dropout", variational_dropout)
        self.takes_input_gates = input_size is None
        if input_size is None:
            if self.bidirectional:
                raise ValueError(
                    f"{type(self).__name__}: input_size is None (the input is the input gates) "
                    "and bidirectional is True; the two directions would share their gates"
                )
            self.input_size = self._gates * hidden_size
            del self.weight_ih_l0
            self._all_weights[0].remove("weight_ih_l0")
            self._flat_weights_names.remove("weight_ih_l0")
            self._init_flat_weights()

    def _rate(self, name: str, value: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ValueError(
                f"{type(self).__name__}: {name} is {value!r}; expected a number, 0 <= {name} < 1"
            )
        return float(value)

    def extra_repr(self) -> str:
        """As torch.nn's, with the kinds of noise that are in use."""
        text = super().extra_repr()
        for name in ("recurrent_dropout", "zoneout", "variational_dropout"):
            rate = getattr(self, name)
            text += f", {name}={rate}" if rate else ""
        return text

    def flatten_parameters(self) -> None:
        """Do nothing: kernels take weights where they are, cuDNN would move them into one array."""

    @property
    def cell(self) -> str:
        """Name of the cell, as the kernels know it."""
        return self.mode.lower()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        offsets: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """
        Run the layers over a batch of sequences.

        Parameters
        ----------
        input : Tensor or PackedSequence
            (T, B, I), (B, T, I) with ``batch_first``, (T, I) unbatched, a PackedSequence, a
            jagged nested tensor (B, *, I), or (events, I) with `offsets`.
        hx : Tensor (num_layers * D, B, H), optional
            Initial state, zeros if absent; (num_layers * D, H) for unbatched input. For an LSTM
            the pair (h_0, c_0). D is 2 if bidirectional, else 1.
        offsets : (B + 1,) int64 Tensor, optional
            Makes `input` ragged: sequence b is its rows ``offsets[b]`` to ``offsets[b + 1] - 1``.
            A sequence of length 0 yields its initial state.
        reset : bool Tensor, optional
            One per event, in the layout of `input` without its last dimension. True: the state
            is zeroed before this event.

        Returns
        -------
        output : Tensor or PackedSequence
            Top layer's states in the layout of `input`, D * H wide.
        h_n : Tensor (num_layers * D, B, H)
            Final states; for an LSTM the pair (h_n, c_n).

        Raises
        ------
        RuntimeError, TypeError, ValueError
            As ``torch.nn``'s modules do, and for offsets that are not int64 or not a partition of
            the rows.
        """
        if isinstance(input, Proxy):
            return fx_leaf(self, input, hx, offsets=offsets, reset=reset)
        return self._forward(input, hx, offsets, reset)

    def _forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None,
        offsets: Tensor | None,
        reset: Tensor | None = None,
        attention: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Run any form of input; `attention` is a plain tensor."""
        name = type(self).__name__
        if hx is not None:
            hx = self._checked_state(hx)
        if isinstance(input, PackedSequence):
            if offsets is not None or reset is not None:
                raise ValueError(f"{name}: a PackedSequence takes neither offsets nor reset")
            values, batch_sizes, order, original = input
            events = _Input(values, int(batch_sizes[0]), batch_sizes=batch_sizes, sessions=order,
                            attention=attention)  # fmt: skip
            output, state = self._run(events, _permuted(hx, order))
            packed = PackedSequence(output, batch_sizes, order, original)
            return packed, _permuted(state, original)
        check_tensor(name, "input", input)
        if reset is not None:
            check_tensor(name, "reset", reset)
            reset = reset.values() if reset.is_nested else reset
            check_dtype(name, "reset", reset, torch.bool)
        if input.is_nested:
            if offsets is not None:
                raise ValueError(f"{name}: a nested tensor takes no offsets; it has its own")
            if input.layout != torch.jagged or not input.is_contiguous():
                raise ValueError(
                    f"{name}: input is a nested tensor of layout {input.layout}; expected a "
                    "contiguous one of layout torch.jagged"
                )
            jagged: Any = input
            rows = jagged.offsets()
            output, state = self._forward(jagged.values(), hx, rows, reset, attention)
            return torch.nested.nested_tensor_from_jagged(output, rows), state
        if offsets is not None:
            if input.dim() != 2:
                raise ValueError(
                    f"{name}: input has {input.dim()} dimensions; expected 2, (events, "
                    "input_size), because offsets are given"
                )
            check_offsets(name, "offsets", offsets, "B")
            _check_reset_shape(name, reset, input)
            events = _Input(input, offsets.shape[0] - 1, offsets=offsets, reset=reset,
                            attention=attention)  # fmt: skip
            return self._run(events, hx)
        return self._run_padded(input, hx, reset, attention)

    def _run_padded(
        self, input: Tensor, hx: State | None, reset: Tensor | None, attention: Tensor | None
    ) -> tuple[Tensor, State]:
        name = type(self).__name__
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        _check_reset_shape(name, reset, input)
        batched = input.dim() == 3
        batch_dim = 0 if self.batch_first else 1
        for state in () if hx is None else hx if isinstance(hx, tuple) else (hx,):
            if state.dim() != input.dim():
                raise RuntimeError(
                    f"For {'batched 3-D' if batched else 'unbatched 2-D'} input, hx should also "
                    f"be {input.dim()}-D but got {state.dim()}-D tensor"
                )
        if not batched:
            input = input.unsqueeze(batch_dim)
            reset = None if reset is None else reset.unsqueeze(batch_dim)
            attention = None if attention is None else attention.unsqueeze(batch_dim)
            hx = _mapped(hx, lambda state: state.unsqueeze(1))
        if input.shape[1 - batch_dim] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        events = _Input(input, input.shape[batch_dim], batch_first=self.batch_first, reset=reset,
                        attention=attention)  # fmt: skip
        output, final = self._run(events, hx)
        if not batched:
            output = output.squeeze(batch_dim)
            final = _mapped(final, lambda state: state.squeeze(1))
        return output, final

    def _run(self, events: _Input, hx: State | None) -> tuple[Tensor, Any]:
        lstm = self.mode == "LSTM"
        values = events.values
        weights = [self._layer_weights(suffix) for suffix in self._suffixes()]
        dtype, precision = values.dtype, "full"
        if torch.is_autocast_enabled(values.device.type):
            dtype, precision = self._autocast(values, hx, events)
            # On CUDA all of the layer is in the dtype of autocast, as in cuDNN.
            working = dtype if values.is_cuda else weights[0]["weight_hh"].dtype
            values = values.to(working)
            hx = _mapped(hx, lambda state: state.to(working))
            weights = [
                {name: None if w is None else w.to(working) for name, w in layer.items()}
                for layer in weights
            ]
        self._check(values, hx, events)
        state_size = self.proj_size or self.hidden_size
        if hx is None:
            zeros = values.new_zeros(events.batch, state_size)
            cell_zeros = values.new_zeros(events.batch, self.hidden_size) if lstm else None
        h_0, c_0 = hx if isinstance(hx, tuple) else (hx, None)
        attention = None if events.attention is None else events.attention.to(values.dtype)
        drop = self.recurrent_dropout if self.training else 0.0
        seed = None
        if self.training and (drop or self.zoneout):
            # where the kernels are, so that a CUDA graph draws anew
            seed = torch.randint(2**63 - 1, (), dtype=torch.int64, device=values.device)
        h_n, c_n = [], []
        for layer in range(self.num_layers):
            if self.variational_dropout and self.training:
                values = values * variational_mask(values, self.variational_dropout, events)
            outputs = []
            for direction in range(self._directions):
                i = layer * self._directions + direction
                call = RnnCall(
                    self.cell,
                    values,
                    zeros if h_0 is None else h_0[i],
                    cell_zeros if lstm and c_0 is None else c_0 if c_0 is None else c_0[i],
                    **weights[i],
                    offsets=events.offsets,
                    batch_sizes=events.batch_sizes,
                    reset=events.reset,
                    batch_first=events.batch_first,
                    reverse=direction == 1,
                    precision=precision,
                    recurrent_dropout=drop,
                    zoneout=self.zoneout,
                    seed=seed,
                    stream=i,
                    sessions=events.sessions,
                    attention=attention,
                )
                y, h, c, _ = rnn_forward(call)
                outputs.append(y)
                h_n.append(h)
                c_n.append(c)
            values = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                values = self._dropped(values, events.batch_first)
        state = (_stacked(h_n), _stacked(c_n)) if lstm else _stacked(h_n)
        if values.dtype != dtype:
            values, state = values.to(dtype), _mapped(state, lambda part: part.to(dtype))
        return values, state

    def _autocast(self, values: Tensor, hx: State | None, events: _Input) -> tuple[Any, str]:
        """Dtype of the results, and precision of the products, as torch.nn has them."""
        weights = self.weight_hh_l0.dtype
        wanted = torch.get_autocast_dtype(values.device.type)
        if values.is_cuda:
            return wanted if weights != torch.float64 else weights, "full"
        if wanted != torch.bfloat16 or weights != torch.float32:
            return weights, "full"
        # In torch.nn an RNN and an LSTM are one op that autocast lists, a GRU and a packed LSTM
        # many: the products alone are in bfloat16.
        many = self.mode == "GRU" or (self.mode == "LSTM" and events.batch_sizes is not None)
        if not many:
            return torch.bfloat16, "bfloat16"
        state = hx[0] if isinstance(hx, tuple) else hx
        dtype = values.dtype if state is None else state.dtype
        return dtype, "bfloat16"

    def _dropped(self, values: Tensor, batch_first: bool) -> Tensor:
        # In time-major order, so that a seed drops the same units as it does in torch.nn.
        if batch_first:
            values = values.transpose(0, 1).contiguous()
        values = torch.nn.functional.dropout(values, self.dropout, True)
        return values.transpose(0, 1).contiguous() if batch_first else values

    def _layer_weights(self, suffix: str) -> dict[str, Any]:
        # torch.nn looks for an attribute among parameters last; a parametrized one is not there.
        held = self._parameters
        found: dict[str, Any] = {}
        for name in RNN_PARAMETERS:
            key = f"{name}_l{suffix}"
            found[name] = held[key] if key in held else getattr(self, key, None)
        return found

    def _suffixes(self) -> list[str]:
        return [
            f"{layer}{direction}"
            for layer in range(self.num_layers)
            for direction in ("", "_reverse")[: self._directions]
        ]

    def _check(self, values: Tensor, hx: State | None, events: _Input) -> None:
        flat = events.offsets is not None or events.batch_sizes is not None
        self.check_input(values, events.batch_sizes if not flat else values)
        if values.dtype not in _DTYPES:
            raise ValueError(
                f"{type(self).__name__}: input is {values.dtype}; expected "
                f"{' or '.join(map(str, _DTYPES))}"
            )
        if hx is None:
            return
        layers = self.num_layers * self._directions
        expected = (layers, events.batch, self.proj_size or self.hidden_size)
        if not isinstance(hx, tuple):
            self.check_hidden_size(hx, expected)
        else:
            self.check_hidden_size(hx[0], expected, "Expected hidden[0] size {}, got {}")
            expected = (layers, events.batch, self.hidden_size)
            self.check_hidden_size(hx[1], expected, "Expected hidden[1] size {}, got {}")
        check_state_dtype(type(self).__name__, hx, values.dtype)

    def _checked_state(self, hx: Any) -> State:
        """Return the initial state as a tensor, or as a tuple of two."""
        name = type(self).__name__
        if self.mode != "LSTM":
            check_tensor(name, "hx", hx)
            return hx  # type: ignore[no-any-return]
        return checked_pair(name, hx)


def checked_pair(function: str, hx: Any) -> tuple[Tensor, Tensor]:
    """Return the state of an LSTM as a tuple; raise TypeError unless it is a pair of tensors."""
    if not isinstance(hx, tuple | list) or len(hx) != 2:
        raise TypeError(f"{function}: hx is not a pair; expected (h_0, c_0)")
    for i, part in enumerate(hx):
        check_tensor(function, f"hx[{i}]", part)
    return hx[0], hx[1]


def check_state_dtype(function: str, hx: State, dtype: torch.dtype) -> None:
    """Raise RuntimeError, as torch.nn does, for a state of another dtype than the input."""
    for part in hx if isinstance(hx, tuple) else (hx,):
        if part.dtype != dtype:
            raise RuntimeError(f"{function}: hx is {part.dtype}; expected {dtype}, as the input")


def fx_leaf(module: torch.nn.Module, input: Proxy, *args: Any, **kwargs: Any) -> Any:
    """Return a call of the module for ``torch.fx``, which treats torch.nn's as leaves alone."""
    tracer: Any = input.tracer
    given = {name: value for name, value in kwargs.items() if value is not None}
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input, *args), given)


def _check_reset_shape(function: str, reset: Tensor | None, input: Tensor) -> None:
    if reset is not None and reset.shape != input.shape[:-1]:
        raise RuntimeError(
            f"{function}: reset has shape {tuple(reset.shape)}; expected {tuple(input.shape[:-1])}"
        )


def _mapped(state: Any, function: Any) -> Any:
    if state is None:
        return None
    if isinstance(state, tuple):
        return tuple(function(part) for part in state)
    return function(state)


def _stacked(states: list[Tensor]) -> Tensor:
    return torch.stack(states) if len(states) > 1 else states[0].unsqueeze(0)


def _permuted(state: Any, order: Tensor | None) -> Any:
    return state if order is None else _mapped(state, lambda part: part.index_select(1, order))
