"""What is timed: each case makes its inputs and returns ours and the peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from seqrec_fast import nn
from seqrec_fast.nn import functional as F

Runs = dict[str, Callable[[], object]]


def _gate(rows: int, experts: int, k: int, backward: bool) -> Runs:
    logits = torch.randn(rows, experts, device="cuda", requires_grad=backward)
    gradient = torch.randn(rows, k, device="cuda")

    def run(gate: Callable[[], Tensor]) -> Callable[[], object]:
        def forward_backward() -> None:
            logits.grad = None
            weights = gate()
            if backward:
                weights.backward(gradient)

        return forward_backward

    def peer() -> Tensor:
        weights = torch.softmax(logits, 1).topk(k).values
        return weights / weights.sum(1, keepdim=True)

    return {"ours": run(lambda: F.expert_gate(logits, k)[0]), "softmax and topk": run(peer)}


def _layer(
    cell: str,
    steps: int,
    batch: int,
    hidden: int,
    dtype: torch.dtype,
    backward: bool,
    ragged: bool = False,
) -> Runs:
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    ours = getattr(nn, cell)(hidden, hidden).cuda().to(dtype)
    cudnn = getattr(torch.nn, cell)(hidden, hidden).cuda().to(dtype)
    cudnn.load_state_dict(ours.state_dict())
    if ragged:
        lengths = torch.distributions.Geometric(1 / 8).sample((batch,)).long().clamp(1, 200)
        sequences = [torch.randn(n, hidden, device="cuda", dtype=dtype) for n in lengths.tolist()]
        packed = torch.nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
        x = torch.cat(sequences).requires_grad_(backward)
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).cuda()
        return {
            "ours": _forward_backward(lambda: ours(x, offsets=offsets)[0], x, backward),
            "cuDNN, packed": _forward_backward(lambda: cudnn(packed)[0].data, x, backward),
        }
    x = torch.randn(steps, batch, hidden, device="cuda", dtype=dtype, requires_grad=backward)
    return {
        "ours": _forward_backward(lambda: ours(x)[0], x, backward),
        "cuDNN": _forward_backward(lambda: cudnn(x)[0], x, backward),
    }


def _forward_backward(
    forward: Callable[[], Tensor], x: Tensor, backward: bool
) -> Callable[[], object]:
    def run() -> None:
        x.grad = None
        with torch.set_grad_enabled(backward):
            y = forward()
        if backward:
            y.backward(torch.ones_like(y))

    return run


def _dispatch(k: int) -> Runs:
    batch, length, dim, experts = 256, 1000, 64, 8
    offsets = torch.arange(0, batch * length + 1, length, device="cuda")
    ids = torch.rand(batch * length, experts, device="cuda").topk(k).indices
    x = torch.randn(batch * length, dim, device="cuda")

    def ours() -> Tensor:
        rows, dispatch = F.dispatch_by_expert(x, offsets, ids, experts)
        return F.combine_by_expert(rows, dispatch)

    def peer() -> Tensor:
        sequence = torch.repeat_interleave(torch.arange(batch, device="cuda"), offsets.diff())
        slot = torch.argsort((ids * batch + sequence[:, None]).reshape(-1), stable=True)
        rows = x.index_select(0, slot // k)
        return torch.zeros_like(x).index_add_(0, slot // k, rows)

    return {"ours": ours, "argsort, index_select, index_add": peer}


def _topk(items: int, dim: int, queries: int, k: int) -> Runs:
    table = torch.randn(items, dim, device="cuda")
    asked = torch.randn(queries, dim, device="cuda")
    return {
        "ours": lambda: F.topk_items(asked, table, k),
        "mm and topk": lambda: (asked @ table.T).topk(k),
    }


def _cross_entropy(rows: int, items: int, dim: int, dtype: torch.dtype) -> Runs:
    hidden = torch.randn(rows, dim, device="cuda", dtype=dtype, requires_grad=True)
    table = torch.randn(items, dim, device="cuda", dtype=dtype, requires_grad=True)
    target = torch.randint(items, (rows,), device="cuda")

    def run(loss: Callable[[], Tensor]) -> Callable[[], object]:
        def forward_backward() -> None:
            hidden.grad = table.grad = None
            loss().backward()

        return forward_backward

    runs = {"ours": run(lambda: F.linear_cross_entropy(hidden, table, target))}
    if rows * items < 1 << 31:
        runs["logits"] = run(
            lambda: torch.nn.functional.cross_entropy((hidden @ table.T).float(), target)
        )
    return runs


_BF16, _F32 = torch.bfloat16, torch.float32

CASES: dict[str, Callable[[], Runs]] = {
    "gate 1M x 64, k=2": partial(_gate, 1 << 20, 64, 2, False),
    "gate 1M x 64, k=2, forward + backward": partial(_gate, 1 << 20, 64, 2, True),
    "dispatch + combine 256 x 1000 x 64, k=1": partial(_dispatch, 1),
    "dispatch + combine 256 x 1000 x 64, k=2": partial(_dispatch, 2),
    "gru bfloat16 T=50 B=512 H=128": partial(_layer, "GRU", 50, 512, 128, _BF16, False),
    "gru bfloat16 T=50 B=512 H=128, forward + backward": partial(
        _layer, "GRU", 50, 512, 128, _BF16, True
    ),
    "gru bfloat16 T=50 B=512 H=129, forward + backward": partial(
        _layer, "GRU", 50, 512, 129, _BF16, True
    ),
    "gru bfloat16 T=50 B=512 H=192, forward + backward": partial(
        _layer, "GRU", 50, 512, 192, _BF16, True
    ),
    "gru bfloat16 T=50 B=512 H=256, forward + backward": partial(
        _layer, "GRU", 50, 512, 256, _BF16, True
    ),
    "gru bfloat16 ragged B=512 H=128, forward + backward": partial(
        _layer, "GRU", 0, 512, 128, _BF16, True, True
    ),
    "gru float32 T=50 B=512 H=128, forward + backward": partial(
        _layer, "GRU", 50, 512, 128, _F32, True
    ),
    "gru float32 T=50 B=512 H=256, forward + backward": partial(
        _layer, "GRU", 50, 512, 256, _F32, True
    ),
    "lstm bfloat16 T=50 B=512 H=128, forward + backward": partial(
        _layer, "LSTM", 50, 512, 128, _BF16, True
    ),
    "topk 1M x 64, 1 query, k=100": partial(_topk, 1_000_000, 64, 1, 100),
    "topk 1M x 64, 1024 queries, k=100": partial(_topk, 1_000_000, 64, 1024, 100),
    "cross-entropy 4096 x 100k x 64, float32": partial(_cross_entropy, 4096, 100_000, 64, _F32),
    "cross-entropy 12800 x 1M x 64, bfloat16": partial(
        _cross_entropy, 12_800, 1_000_000, 64, _BF16
    ),
}
