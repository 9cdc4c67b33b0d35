"""``torch.compile`` of operators on CUDA: no graph break, traced on tensors without values."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from emulated_device import ON_GPU
from seqrec_fast.models import GRU4Rec
from seqrec_fast.nn import AUGRU, GRU, LSTM
from seqrec_fast.nn import functional as F

# Of PyTorch's own, as it traces an autograd.Function.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

EVENTS, DIM, ITEMS = 7, 4, 9
TENSORS = {
    "x": torch.zeros(EVENTS, DIM),
    "table": torch.zeros(ITEMS, DIM),
    "bias": torch.zeros(ITEMS),
    "target": torch.zeros(EVENTS, dtype=torch.int64),
    "negatives": torch.zeros(5, dtype=torch.int64),
    "offsets": torch.tensor([0, 3, 3, EVENTS]),
}
CASES = {
    "cross entropy": lambda t: F.linear_cross_entropy(t["x"], t["table"], t["target"], t["bias"]),
    "softmax": lambda t: F.sampled_softmax_loss(t["x"], t["table"], t["target"], t["negatives"]),
    "own": lambda t: F.bpr_max_loss(
        t["x"], t["table"], t["target"], t["target"], t["bias"], collisions="own", reduction="none"
    ),
    "topk": lambda t: F.topk(t["x"], t["table"], 3, bias=t["bias"]),
    "gate": lambda t: F.expert_gate(t["x"], 2),
    "routes": lambda t: F.route_segments(t["x"], t["offsets"], t["table"], 2),
    "means": lambda t: F.segment_mean(t["x"], t["offsets"]),
}
LAYERS = {
    "gru": (GRU, {"num_layers": 2}, False),
    "lstm": (LSTM, {"bidirectional": True}, False),
    "augru": (AUGRU, {}, True),
}


def fake(mode: FakeTensorMode, like: Tensor) -> FakeTensor:
    """Return a tensor on CUDA without values."""
    return FakeTensor(mode, like.to("meta"), torch.device("cuda", 0))


def assert_traced(function, *arguments: Tensor) -> None:
    """Compile for CUDA tensors; results are those of the CPU in shape and dtype, on CUDA."""
    mode = FakeTensorMode()
    inputs = [fake(mode, tensor) for tensor in arguments]
    # autograd would ask for the GPU's streams
    with torch.no_grad():
        expected = tree_leaves(function(*arguments))
        torch.compiler.reset()
        with mode:
            found = tree_leaves(torch.compile(function, fullgraph=True, backend="eager")(*inputs))
    assert [(t.shape, t.dtype) for t in found] == [(t.shape, t.dtype) for t in expected]
    assert {t.device for t in found} == {torch.device("cuda", 0)}


@pytest.mark.parametrize("name", CASES)
def test_functions(name) -> None:
    names = list(TENSORS)
    assert_traced(lambda *ts: CASES[name](dict(zip(names, ts, strict=True))), *TENSORS.values())


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name) -> None:
    kind, options, weighed = LAYERS[name]
    layer = kind(DIM, 6, **options)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def run(x: Tensor, offsets: Tensor, *values: Tensor):
        more = (x.select(1, 0),) if weighed else ()
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, parameters, (x, *more), {"offsets": offsets})

    assert_traced(run, TENSORS["x"], TENSORS["offsets"], *(w.detach() for w in weights))


@pytest.mark.parametrize("gpu", [pytest.param(True, marks=ON_GPU), False])
def test_a_step_of_training_is_one_graph(gpu) -> None:
    eager = GRU4Rec(ITEMS, embedding_dim=8, hidden_size=8, dropout_embedding=0, dropout_hidden=0)
    eager.to("cuda" if gpu else "cpu")
    compiled = copy.deepcopy(eager)
    items, offsets = (TENSORS[n].to(eager.item_table.device) for n in ("target", "offsets"))

    def loss(model: GRU4Rec) -> Tensor:
        hidden, _ = model(items, offsets)
        return F.linear_cross_entropy(hidden, model.item_table, items, model.output.bias)

    torch.compiler.reset()
    loss(eager).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled).backward()
    for ours, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
