from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from seqrec_fast.data import ItemVocabulary
from seqrec_fast.io import load_model
from seqrec_fast.models import GRU4Rec

CELLS = ("gru", "lstm", "rnn")
GATES = {"gru": 3, "lstm": 4, "rnn": 1}
ITEMS = torch.tensor([3, 1, 4, 1, 5, 2, 6])
OFFSETS = torch.tensor([0, 3, 3, 4, 7])


def small(**options) -> GRU4Rec:
    defaults = {"embedding_dim": 5, "hidden_size": 5, "seed": 1}
    return GRU4Rec(7, **{**defaults, "dropout_embedding": 0, "dropout_hidden": 0, **options})


def states(state):
    return state if isinstance(state, tuple) else (state,)


def plain(model: GRU4Rec, items: list[int]) -> torch.Tensor:
    """Hidden states of one session, with torch.nn and without ragged input."""
    config = model.config
    options = {"nonlinearity": config["nonlinearity"]} if config["cell"] == "rnn" else {}
    cls = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}[config["cell"]]
    rnn = cls(config["embedding_dim"], config["hidden_size"], config["num_layers"], **options)
    rnn.load_state_dict(model.rnn.state_dict())
    return rnn(model.embedding.weight[items][:, None])[0][:, 0]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("embedding", ["separate", "tied"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_forward_equals_torch_session_by_session(cell, embedding, num_layers) -> None:
    model = small(cell=cell, embedding=embedding, num_layers=num_layers).eval()
    hidden, state = model(ITEMS, OFFSETS)
    for b, (begin, end) in enumerate(pairwise(OFFSETS.tolist())):
        if begin < end:
            expected = plain(model, ITEMS[begin:end].tolist())
            torch.testing.assert_close(hidden[begin:end], expected)
            torch.testing.assert_close(states(state)[0][-1, b], expected[-1])
        else:
            assert not states(state)[0][:, b].any()
    table = model.output.weight if embedding == "separate" else model.embedding.weight
    torch.testing.assert_close(model.scores(hidden), hidden @ table.T + model.output.bias)


@pytest.mark.parametrize("cell", CELLS)
def test_tied_embedding_of_another_width_is_scored_with_the_projected_state(cell) -> None:
    model = small(cell=cell, hidden_size=6).eval()
    hidden, state = model(ITEMS, OFFSETS)
    assert hidden.shape == (len(ITEMS), 5)
    h = model.rnn(model.embedding(ITEMS), None, offsets=OFFSETS)[0]
    expected = h @ model.projection.weight.T + model.projection.bias
    torch.testing.assert_close(hidden, expected)
    assert states(state)[0].shape[-1] == 6
    torch.testing.assert_close(
        model.scores(hidden), expected @ model.embedding.weight.T + model.output.bias
    )
    assert small(cell=cell).projection is None


@pytest.mark.parametrize("cell", CELLS)
def test_no_embedding_is_an_embedding_multiplied_out(cell) -> None:
    separate = small(cell=cell, embedding="separate").eval()
    none = small(cell=cell, embedding="none").eval()
    parameters = separate.state_dict()
    table, weight = parameters.pop("embedding.weight"), parameters.pop("rnn.weight_ih_l0")
    none.load_state_dict({**parameters, "input_gates.weight": table @ weight.T})
    torch.testing.assert_close(none(ITEMS, OFFSETS)[0], separate(ITEMS, OFFSETS)[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_names_and_shapes_of_the_state_dict(cell, embedding) -> None:
    model = small(cell=cell, embedding=embedding)
    gates = GATES[cell] * 5
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {"rnn.weight_hh_l0": (gates, 5), "rnn.bias_ih_l0": (gates,)}
    expected |= {"rnn.bias_hh_l0": (gates,), "output.bias": (7,)}
    if embedding == "none":
        expected["input_gates.weight"] = (7, gates)
    else:
        expected |= {"embedding.weight": (7, 5), "rnn.weight_ih_l0": (gates, 5)}
    if embedding != "tied":
        expected["output.weight"] = (7, 5)
    assert shapes == expected


@pytest.mark.parametrize("cell", CELLS)
def test_steps_with_resets_equal_whole_sessions(cell) -> None:
    model = small(cell=cell, num_layers=2).eval()
    items = torch.tensor([3, 1, 4, 1, 5, 2, 6, 0, 1])
    hidden, _ = model(items, torch.tensor([0, 3, 5, 9]))
    lanes = [[3, 1, 4, 1, 5], [2, 6, 0, 1, 2]]  # the second lane starts its session again
    resets = [[True, False, False, True, False], [True, False, False, False, True]]
    state = None
    seen = []
    for t in range(5):
        items, reset = (torch.tensor([lane[t] for lane in rows]) for rows in (lanes, resets))
        h, state = model.step(items, state, reset)
        seen.append(h)
    torch.testing.assert_close(torch.stack([h[0] for h in seen]), hidden[:5])
    torch.testing.assert_close(torch.stack([h[1] for h in seen[:4]]), hidden[5:])
    torch.testing.assert_close(seen[4][1], hidden[5])


def test_state_carries_a_session_on() -> None:
    model = small(cell="lstm").eval()
    whole, _ = model(torch.tensor([3, 1, 4, 1]), torch.tensor([0, 4]))
    _, state = model(torch.tensor([3, 1]), torch.tensor([0, 2]))
    rest, _ = model(torch.tensor([4, 1]), torch.tensor([0, 2]), state)
    torch.testing.assert_close(rest, whole[2:])


def test_reset_before_differs_and_is_kept() -> None:
    after, before = small().eval(), small(reset_after=False).eval()
    before.load_state_dict(after.state_dict())
    assert before.config["reset_after"] is False
    assert not torch.allclose(before(ITEMS, OFFSETS)[0], after(ITEMS, OFFSETS)[0])


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = small(dropout_hidden=0.5, dropout_embedding=0.5, num_layers=2)
    assert (model(ITEMS, OFFSETS)[0] == 0).float().mean() > 0.2
    model.eval()
    torch.testing.assert_close(model(ITEMS, OFFSETS)[0], model(ITEMS, OFFSETS)[0])
    assert (model(ITEMS, OFFSETS)[0] != 0).all()


@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_run_takes_rows_of_the_input_table(embedding) -> None:
    model = small(embedding=embedding)
    hidden, state = model.run(model.input_table[ITEMS], OFFSETS)
    assert torch.equal(hidden, model(ITEMS, OFFSETS)[0])
    assert torch.equal(state, model(ITEMS, OFFSETS)[1])


def test_seed_fixes_the_parameters_and_nothing_else() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = small(), small(), small(seed=2)
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.item_table, other.item_table)


@pytest.mark.parametrize("embedding", ["separate", "tied", "none"])
def test_export_writes_what_the_model_holds(tmp_path, embedding) -> None:
    model = small(cell="lstm", embedding=embedding)
    path = tmp_path / "model.safetensors"
    model.export(path, ItemVocabulary([f"i{i}" for i in range(7)]))
    written = load_model(path)
    assert written.model == "gru4rec"
    assert written.config == model.config
    assert written.item_ids.tolist() == [f"i{i}" for i in range(7)]
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(written.tensors[name], tensor.numpy())
    with pytest.raises(ValueError, match="vocabulary has 6 items; expected 7"):
        model.export(path, ItemVocabulary(range(6)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"cell": "qrnn"}, "cell is 'qrnn'; expected one of gru, lstm, rnn"),
        ({"embedding": "shared"}, "embedding is 'shared'"),
        ({"nonlinearity": "sin"}, "nonlinearity is 'sin'"),
        ({"hidden_size": 0, "embedding": "separate"}, "hidden_size is 0; expected at least 1"),
        ({"dropout_hidden": 1.0}, "dropout_hidden is 1.0; expected 0 <= dropout_hidden < 1"),
    ],
)
def test_bad_options_are_named(option, message) -> None:
    with pytest.raises(ValueError, match=message):
        small(**option)
