"""The gate of a mixture of experts as a module."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_fast._checks import check_choice, checked_flag, checked_int, checked_number
from seqrec_fast.gating import checked_options

from ._checks import check_shape, check_tensor
from ._gate_ops import gate_noise
from .expert_choice import expert_gate
from .gate_losses import update_selection_bias

__all__ = ["ExpertGate", "Routing"]

_KINDS = ("linear", "cosine")
_NOISES = (None, "normal", "gumbel")
_MAX_LOG_TEMPERATURE = math.log(100.0)


class Routing(NamedTuple):
    """A gate's choices, with what its losses need."""

    weights: Tensor  #: (N, k)
    expert_ids: Tensor  #: (N, k) int64, -1 where no candidate is left
    logits: Tensor  #: (N, E), without noise


class ExpertGate(nn.Module):
    """
    Choose k experts for each row of features.

    Logits are ``x @ weight.T + bias``, or cosines with the rows of `weight`, times a learnable
    factor of at most 100 (Tutel's cosine gate; Hwang et al., 2022, arXiv:2206.03382). What is
    chosen and weighted is as in :func:`seqrec_fast.nn.functional.expert_gate`. The gate computes
    in float32 also under autocast.

    Parameters
    ----------
    input_size : int
    num_experts : int
    k : int
    kind : {"linear", "cosine"}
    score : {"softmax", "sigmoid", "sqrt_softplus"}
    order : {"score_then_topk", "topk_then_score"}
    renormalize : bool
        With ``k=1`` weights are then constant, and no gradient reaches the gate.
    scale : float
    bias : bool
        Of the linear logits.
    selection_bias : bool
        Keep a buffer `selection_bias` (E,), at first 0, for :meth:`update_selection_bias`. It is
        float64 for float64 parameters, else float32, whatever the module is converted to: small
        steps would be lost in 16 bits.
    temperature : float
        Of the cosine gate at first: cosines are divided by it.
    noise : {None, "normal", "gumbel"}
        Added to the logits in training, for choice and weights.
    noise_scale : float
        Factor of the noise.
    learned_noise : bool
        Multiply it by softplus(x @ weight_noise.T) too (noisy top-k, Shazeer et al., 2017,
        arXiv:1701.06538).
    seed : int
        Of the noise, 0 or more, which depends on it, on the number of training calls so far (in the
        `state_dict`), on row and expert: not on the number of threads.

    Attributes
    ----------
    weight : (num_experts, input_size) Parameter

    Raises
    ------
    TypeError
        If an option has another type.
    ValueError
        If an option is unknown, out of range, or needs another one.
    """

    def __init__(
        self,
        input_size: SupportsIndex,
        num_experts: SupportsIndex,
        k: SupportsIndex,
        *,
        kind: str = "linear",
        score: str = "softmax",
        order: str = "score_then_topk",
        renormalize: bool = True,
        scale: float = 1.0,
        bias: bool = False,
        selection_bias: bool = False,
        temperature: float = 0.5,
        noise: str | None = None,
        noise_scale: float = 1.0,
        learned_noise: bool = False,
        seed: SupportsIndex = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = "ExpertGate"
        check_choice(name, "kind", kind, _KINDS)
        check_choice(name, "noise", noise, _NOISES)
        experts = checked_int(name, "num_experts", num_experts, 1)
        options = checked_options(name, experts, k, score, order, renormalize, scale)
        temperature = checked_number(name, "temperature", temperature, finite=True)
        if not temperature > 0:
            raise ValueError(f"{name}: temperature is {temperature}; expected more than 0")
        for option, value in (("bias", bias), ("selection_bias", selection_bias)):
            checked_flag(name, option, value)
        if kind == "cosine" and bias:
            raise ValueError(f"{name}: bias is for linear logits; kind is cosine")
        if checked_flag(name, "learned_noise", learned_noise) and noise is None:
            raise ValueError(f"{name}: learned_noise is True; expected a noise that it scales")
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.input_size, self.num_experts = checked_int(name, "input_size", input_size), experts
        self.k, self.score, self.order, self.renormalize, self.scale = options
        self.kind, self.temperature, self.noise = kind, temperature, noise
        self.noise_scale = checked_number(name, "noise_scale", noise_scale, finite=True)
        self.seed = checked_int(name, "seed", seed, 0, 2**64 - 1)
        self.weight = nn.Parameter(torch.empty(experts, self.input_size, **made))
        self.bias = nn.Parameter(torch.empty(experts, **made)) if bias else None
        self.log_temperature = nn.Parameter(torch.empty((), **made)) if kind == "cosine" else None
        self.weight_noise = (
            nn.Parameter(torch.empty(experts, self.input_size, **made)) if learned_noise else None
        )
        self.selection_bias: Tensor | None
        wide = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        steps = torch.zeros(experts, device=self.weight.device, dtype=wide)
        self.register_buffer("selection_bias", steps if selection_bias else None)
        self.noise_step: Tensor | None
        self.register_buffer(
            "noise_step", None if noise is None else torch.zeros((), dtype=torch.int64)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as ``torch.nn.Linear`` does; the noise's are 0."""
        bound = 1 / math.sqrt(max(self.input_size, 1))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.log_temperature is not None:
            nn.init.constant_(self.log_temperature, -math.log(self.temperature))
        if self.weight_noise is not None:
            nn.init.zeros_(self.weight_noise)

    def logits(self, x: Tensor) -> Tensor:
        """
        Return the logits without noise.

        Parameters
        ----------
        x : (N, input_size) Tensor

        Returns
        -------
        (N, num_experts) Tensor
            float64 for float64 parameters, else float32.
        """
        check_tensor("ExpertGate", "x", x)
        check_shape("ExpertGate", "x", x, "N", self.input_size)
        with torch.autocast(x.device.type, enabled=False):
            weight = self._working(self.weight)
            x = x.to(weight.dtype)
            if self.log_temperature is None:
                return F.linear(x, weight, None if self.bias is None else self._working(self.bias))
            factor = self._working(self.log_temperature).clamp(max=_MAX_LOG_TEMPERATURE).exp()
            return F.linear(F.normalize(x, dim=1), F.normalize(weight, dim=1)) * factor

    def route(self, x: Tensor, mask: Tensor | None = None) -> Routing:
        """
        Return the choices and the logits, which the losses need.

        Parameters
        ----------
        x : (N, input_size) Tensor
        mask : (num_experts,) or (N, num_experts) bool Tensor, optional
            True: may be chosen.

        Returns
        -------
        Routing
        """
        logits = self.logits(x)
        noisy = logits + self._noise(x, logits) if self.training and self.noise else logits
        weights, expert_ids = expert_gate(
            noisy, self.k, score=self.score, order=self.order, renormalize=self.renormalize,
            bias=self.selection_bias, mask=mask, scale=self.scale,
        )  # fmt: skip
        return Routing(weights, expert_ids, logits)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """
        Return weights and ids, as :meth:`route` does, without the logits.

        Parameters
        ----------
        x : (N, input_size) Tensor
        mask : (num_experts,) or (N, num_experts) bool Tensor, optional

        Returns
        -------
        weights : (N, k) Tensor
        expert_ids : (N, k) int64 Tensor
        """
        return self.route(x, mask)[:2]

    def update_selection_bias(self, load: Tensor, *, rate: float = 1e-3) -> None:
        """
        Move the selection bias against the load, see ``gate_losses.update_selection_bias``.

        Parameters
        ----------
        load : (num_experts,) Tensor
        rate : float
        """
        if self.selection_bias is None:
            raise ValueError("ExpertGate: it was made without a selection_bias")
        update_selection_bias(self.selection_bias, load, rate=rate)

    def extra_repr(self) -> str:
        """Return the sizes and options."""
        return (
            f"{self.input_size}, {self.num_experts}, k={self.k}, kind={self.kind}, "
            f"score={self.score}, order={self.order}, renormalize={self.renormalize}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ExpertGate:
        kept = self.selection_bias
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if kept is not None and self.selection_bias is not None:
            converted = self.selection_bias
            if converted.dtype in (torch.bfloat16, torch.float16):
                self.selection_bias = kept.to(converted.device, torch.float32)
        return self

    def _noise(self, x: Tensor, logits: Tensor) -> Tensor:
        assert self.noise is not None
        assert self.noise_step is not None
        step = int(self.noise_step)
        self.noise_step += 1
        noise = gate_noise(logits, self.noise, self.seed, step)
        noise = noise * self.noise_scale
        if self.weight_noise is not None:
            weight = self._working(self.weight_noise)
            noise = noise * F.softplus(F.linear(x.to(weight.dtype), weight))
        return noise

    @staticmethod
    def _working(parameter: Tensor) -> Tensor:
        return parameter if parameter.dtype == torch.float64 else parameter.float()
