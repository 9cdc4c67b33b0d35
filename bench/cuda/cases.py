"""
What is timed: each case makes its inputs on a device and returns ours and the peers.

`small` makes all sizes small, so that the cases can be tried on a CPU (bench_cases.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from seqrec_fast import nn
from seqrec_fast.nn import functional as F

from .training_step import training_step

Run = Callable[[], object]
Runs = dict[str, Run]
Case = Callable[..., Runs]


def gate(rows: int, experts: int, k: int, backward: bool, *, device: str, small: bool) -> Runs:
    rows = 50 if small else rows
    logits = torch.randn(rows, experts, device=device, requires_grad=backward)

    def peer() -> Tensor:
        weights = torch.softmax(logits, 1).topk(k).values
        return weights / weights.sum(1, keepdim=True)

    return {
        "ours": _passes(lambda: F.expert_gate(logits, k)[0], logits, backward),
        "softmax and topk": _passes(peer, logits, backward),
    }


def layer(
    cell: str,
    hidden: int,
    *,
    bfloat16: bool,
    backward: bool = True,
    ragged: bool = False,
    device: str,
    small: bool,
) -> Runs:
    """
    Compare a layer over 512 sessions of 50 events, or of geometric length.

    In bfloat16 both are bfloat16 modules; on a CPU ours is under autocast instead.
    """
    batch, steps = (6, 4) if small else (512, 50)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    ours = getattr(nn, cell)(hidden, hidden).to(device)
    theirs = getattr(torch.nn, cell)(hidden, hidden).to(device)
    theirs.load_state_dict(ours.state_dict())
    lengths = torch.full((batch,), steps)
    if ragged:
        lengths = torch.distributions.Geometric(1 / 8).sample((batch,)).long().clamp(1, 200)
    x = torch.randn(int(lengths.sum()), hidden, device=device)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    peer_x = x.to(dtype)
    autocast = bfloat16 and device == "cpu"
    if not autocast:
        x, ours = x.to(dtype), ours.to(dtype)
    x.requires_grad_(backward)
    peer = theirs.to(dtype)
    if ragged:
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(device)
        packed = torch.nn.utils.rnn.pack_sequence(
            list(peer_x.split(lengths.tolist())), enforce_sorted=False
        )
        # a leaf, so that its gradient is wanted, as that of ours
        leaf = packed.data.detach().requires_grad_(backward)
        packed = packed._replace(data=leaf)
        own, other = lambda: ours(x, offsets=offsets)[0], lambda: peer(packed)[0].data
        peer_name = "cuDNN, packed"
    else:
        padded = x.detach().view(steps, batch, hidden).requires_grad_(backward)
        leaf = peer_x.view(steps, batch, hidden).requires_grad_(backward)
        x = padded
        own, other = lambda: ours(padded)[0], lambda: peer(leaf)[0]
        peer_name = "cuDNN"

    def under_autocast() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            return own()

    return {
        "ours": _passes(under_autocast, x, backward),
        peer_name: _passes(other, leaf, backward),
    }


def dispatch(k: int, *, device: str, small: bool) -> Runs:
    batch, length, dim, experts = (3, 10, 8, 4) if small else (256, 1000, 64, 8)
    offsets = torch.arange(0, batch * length + 1, length, device=device)
    ids = torch.rand(batch * length, experts, device=device).topk(k).indices
    x = torch.randn(batch * length, dim, device=device)

    def ours() -> Tensor:
        rows, plan = F.dispatch_by_expert(x, offsets, ids, experts)
        return F.combine_by_expert(rows, plan)

    def peer() -> Tensor:
        sequence = torch.repeat_interleave(torch.arange(batch, device=device), offsets.diff())
        slot = torch.argsort((ids * batch + sequence[:, None]).reshape(-1), stable=True)
        rows = x.index_select(0, slot // k)
        return torch.zeros_like(x).index_add_(0, slot // k, rows)

    return {"ours": ours, "argsort, index_select, index_add": peer}


def expert_layers(cell: str, *, device: str, small: bool) -> Runs:
    """Compare recurrent experts over 256 histories of 1000 events with one layer after another."""
    batch, length, dim, experts = (3, 10, 8, 4) if small else (256, 1000, 64, 8)
    torch.manual_seed(0)
    ours = getattr(nn, f"Expert{cell}")(experts, dim, dim).to(device)
    layers = [getattr(nn, cell)(dim, dim).to(device) for _ in range(experts)]
    for m, layer_of_one in enumerate(layers):
        layer_of_one.load_state_dict({name: p[m] for name, p in ours.state_dict().items()})
    offsets = torch.arange(0, batch * length + 1, length, device=device)
    ids = torch.randint(experts, (batch * length, 1), device=device)
    events = torch.randn(batch * length, dim, device=device)
    rows, plan = F.dispatch_by_expert(events, offsets, ids, experts)
    x = rows.detach().requires_grad_()
    parts = [plan.offsets[m * batch : (m + 1) * batch + 1] for m in range(experts)]
    bounds = [(int(part[0]), int(part[-1])) for part in parts]

    def peer() -> Tensor:
        return torch.cat(
            [
                layers[m](x[first:last], offsets=part - part[0])[0]
                for m, (part, (first, last)) in enumerate(zip(parts, bounds, strict=True))
            ]
        )

    return {
        "ours": _passes(lambda: ours(x, offsets=plan.offsets)[0], x, True),
        "one layer after another": _passes(peer, x, True),
    }


def grouped_linear(
    groups: int, rows: int, *, bfloat16: bool = False, device: str, small: bool
) -> Runs:
    """Compare linear layers over groups of `rows` rows with a loop over the groups."""
    groups, rows, dim = (3, 5, 8) if small else (groups, rows, 64)
    torch.backends.cuda.matmul.allow_tf32 = False
    x = torch.randn(groups * rows, dim, device=device, requires_grad=True)
    weight = torch.randn(groups, dim, dim, device=device, requires_grad=True)
    bias = torch.randn(groups, dim, device=device, requires_grad=True)
    offsets = torch.arange(0, groups * rows + 1, rows, device=device)

    def loop() -> Tensor:
        parts = zip(x.split(rows), weight, bias, strict=True)
        return torch.cat([torch.nn.functional.linear(*part) for part in parts])

    def under_autocast(run: Callable[[], Tensor]) -> Run:
        def forward() -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                return run()

        return _passes(forward, x, True, weight, bias)

    return {
        "ours": under_autocast(lambda: F.grouped_linear(x, weight, bias, offsets)),
        "loop of linear": under_autocast(loop),
    }


def multi_gate(*, device: str, small: bool) -> Runs:
    experts, gates, rows, dim = (3, 2, 6, 8) if small else (8, 4, 1 << 16, 128)
    outputs = torch.randn(experts, rows, dim, device=device, requires_grad=True)
    logits = torch.randn(gates, rows, experts, device=device, requires_grad=True)

    def peer() -> Tensor:
        return torch.einsum("gne,end->gnd", logits.softmax(-1), outputs)

    return {
        "ours": _passes(lambda: F.multi_gate_mixture(outputs, logits), outputs, True, logits),
        "softmax and einsum": _passes(peer, outputs, True, logits),
    }


def session_segments(rule: str, *, device: str, small: bool) -> Runs:
    batch, length, count = (3, 10, 3) if small else (256, 1000, 20)
    offsets = torch.arange(0, batch * length + 1, length, device=device)
    gaps = torch.rand(batch, length, device=device, dtype=torch.float64)
    times = gaps.cumsum(1)
    flat = times.reshape(-1)

    def peer() -> Tensor:
        starts = torch.ones(batch, length, dtype=torch.bool, device=device)
        gap = times.diff(dim=1)
        if rule == "gap":
            starts[:, 1:] = gap > 0.9
        else:
            largest = gap.topk(count - 1, dim=1).indices
            starts[:, 1:] = torch.zeros_like(gap, dtype=torch.bool).scatter_(1, largest, True)
        first = starts.reshape(-1).nonzero()[:, 0]
        return torch.cat([first, offsets[-1:]])

    options = {"gap": 0.9} if rule == "gap" else {"count": count}
    return {
        "ours": lambda: F.session_segments(offsets, flat, rule=rule, **options).offsets,
        "diff, topk, nonzero": peer,
    }


def topk(queries: int, *, device: str, small: bool) -> Runs:
    items, k = (300, 5) if small else (1_000_000, 100)
    table = torch.randn(items, 64, device=device)
    asked = torch.randn(min(queries, 20) if small else queries, 64, device=device)
    return {
        "ours": lambda: F.topk(asked, table, k)[0],
        "mm and topk": lambda: (asked @ table.T).topk(k).values,
    }


def cross_entropy(
    rows: int, items: int, dtype: torch.dtype = torch.float32, *, device: str, small: bool
) -> Runs:
    rows, items = (7, 40) if small else (rows, items)
    hidden = torch.randn(rows, 64, device=device).to(dtype).requires_grad_()
    table = torch.randn(items, 64, device=device).to(dtype).requires_grad_()
    target = torch.randint(items, (rows,), device=device)

    def run(loss: Callable[[], Tensor]) -> Run:
        return _passes(loss, hidden, True, table)

    runs = {"ours": run(lambda: F.linear_cross_entropy(hidden, table, target))}
    if rows * items < 1 << 31:
        runs["logits"] = run(
            lambda: torch.nn.functional.cross_entropy((hidden @ table.T).float(), target)
        )
    return runs


def _passes(forward: Callable[[], Tensor], x: Tensor, backward: bool, *more: Tensor) -> Run:
    """Return what runs forward and, if asked for, backward, and returns the output."""

    def run() -> Tensor:
        for leaf in (x, *more):
            leaf.grad = None
        with torch.set_grad_enabled(backward):
            y = forward()
        if backward:
            y.backward(torch.ones_like(y))
        return y

    return run


CASES: dict[str, Case] = {
    "gate 1M x 64, k=2": partial(gate, 1 << 20, 64, 2, False),
    "gate 1M x 64, k=2, forward + backward": partial(gate, 1 << 20, 64, 2, True),
    "dispatch + combine 256 x 1000 x 64, k=1": partial(dispatch, 1),
    "dispatch + combine 256 x 1000 x 64, k=2": partial(dispatch, 2),
    **{
        f"{cell.lower()} experts float32, 8 x 256 x 1000 events x 64, forward + backward": partial(
            expert_layers, cell
        )
        for cell in ("GRU", "LSTM")
    },
    "grouped linear 8 x 32k x 64 x 64, forward + backward": partial(grouped_linear, 8, 1 << 15),
    "grouped linear bfloat16 8 x 32k x 64 x 64, forward + backward": partial(
        grouped_linear, 8, 1 << 15, bfloat16=True
    ),
    "grouped linear 4096 x 50 x 64 x 64, forward + backward": partial(grouped_linear, 4096, 50),
    "multi-gate 8 experts, 4 gates, 64k x 128, forward + backward": multi_gate,
    "session segments by gap, 256 x 1000": partial(session_segments, "gap"),
    "session segments at the largest gaps, 256 x 1000": partial(session_segments, "top_gaps"),
    "gru bfloat16 T=50 B=512 H=128, forward": partial(
        layer, "GRU", 128, bfloat16=True, backward=False
    ),
    **{
        f"gru bfloat16 T=50 B=512 H={hidden}, forward + backward": partial(
            layer, "GRU", hidden, bfloat16=True
        )
        for hidden in (128, 129, 192, 256, 1024)
    },
    "gru bfloat16 ragged B=512 H=128, forward + backward": partial(
        layer, "GRU", 128, bfloat16=True, ragged=True
    ),
    **{
        f"gru float32 T=50 B=512 H={hidden}, forward + backward": partial(
            layer, "GRU", hidden, bfloat16=False
        )
        for hidden in (128, 256)
    },
    "lstm bfloat16 T=50 B=512 H=128, forward + backward": partial(
        layer, "LSTM", 128, bfloat16=True
    ),
    "topk 1M x 64, 1 query, k=100": partial(topk, 1),
    "topk 1M x 64, 1024 queries, k=100": partial(topk, 1024),
    "cross-entropy 4096 x 100k x 64, float32": partial(cross_entropy, 4096, 100_000),
    "cross-entropy 12800 x 1M x 64, float32": partial(cross_entropy, 12_800, 1_000_000),
    **{
        f"cross-entropy {name} x 64, bfloat16": partial(cross_entropy, rows, items, torch.bfloat16)
        for name, rows, items in (
            ("512 x 100k", 512, 100_000),
            ("4096 x 100k", 4096, 100_000),
            ("12800 x 1M", 12_800, 1_000_000),
        )
    },
    "gru4rec step T=20 B=512 H=128, 1M items": partial(training_step, 1_000_000),
}
