"""DIEN and the recurrent baselines against loops over the events, history by history."""

from __future__ import annotations

import pytest
import torch

from click_cases import ITEMS, OFFSETS, TARGETS, histories, small
from seqrec_fast.models import DIEN


def states_of(rnn, events):
    """States of a GRU after each event, by torch."""
    gru = torch.nn.GRU(rnn.input_size, rnn.hidden_size).double()
    gru.load_state_dict(rnn.state_dict())
    return gru(events[:, None])[0][:, 0] if len(events) else events.new_zeros(0, rnn.hidden_size)


def evolved(rnn, events, attention, mode):
    """State after the last event, by the two formulas of an AUGRU."""
    h = events.new_zeros(rnn.hidden_size)
    cell = torch.nn.GRUCell(rnn.input_size, rnn.hidden_size).double()
    cell.load_state_dict({name[:-3]: value for name, value in rnn.state_dict().items()})
    for x, a in zip(events, attention, strict=True):
        x_gates = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
        h_gates = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
        r, z = (torch.sigmoid(x_gates[i] + h_gates[i]) for i in (0, 1))
        n = torch.tanh(x_gates[2] + r * h_gates[2])
        if mode == "augru_paper":
            update = a * (1 - z)
            h = (1 - update) * h + update * n
        else:
            keep = (1 - a) * z
            h = keep * h + (1 - keep) * n
    return h


def logit(model, items, target, interest):
    q, e = model.embedding(target), model.embedding(items)
    mean = e.mean(0) if len(e) else torch.zeros_like(q)
    return model.head(torch.cat([q, mean, q * mean, interest])[None])[0]


@pytest.mark.parametrize("name", ["dien", "dien, paper"])
def test_dien_is_its_definition(name) -> None:
    model = small(name).double()
    mode = model.config["attention_mode"]
    logits = model(ITEMS, OFFSETS, TARGETS)
    for b, items in enumerate(histories()):
        states = states_of(model.extractor, model.embedding(items))
        scores = states @ model.attention.weight @ model.embedding(TARGETS[b])
        interest = evolved(model.evolution, states, scores.softmax(0), mode)
        torch.testing.assert_close(logits[b], logit(model, items, TARGETS[b], interest))


def test_the_augru_baseline_is_its_definition() -> None:
    model = small("augru").double()
    logits = model(ITEMS, OFFSETS, TARGETS)
    for b, items in enumerate(histories()):
        e = model.embedding(items)
        attention = (e @ model.attention.weight @ model.embedding(TARGETS[b])).softmax(0)
        interest = evolved(model.rnn, e, attention, "augru_tf")
        torch.testing.assert_close(logits[b], logit(model, items, TARGETS[b], interest))


def test_the_gru_baseline_is_its_definition() -> None:
    model = small("gru").double()
    logits = model(ITEMS, OFFSETS, TARGETS)
    for b, items in enumerate(histories()):
        states = states_of(model.rnn, model.embedding(items))
        interest = states[-1] if len(states) else states.new_zeros(4)
        torch.testing.assert_close(logits[b], logit(model, items, TARGETS[b], interest))


def test_the_auxiliary_loss_is_its_definition() -> None:
    model = small("dien").train()
    torch.manual_seed(5)
    model(ITEMS, OFFSETS, TARGETS)
    found = model.auxiliary_loss()
    torch.manual_seed(5)
    drawn = torch.randint(model.n_items, (5,))  # events that have a next one
    losses = []
    for items in histories():
        states, _ = model.extractor(model.embedding(items), offsets=torch.tensor([0, len(items)]))
        for h, following in zip(states, items[1:].tolist(), strict=False):
            right = torch.sigmoid(h @ model.embedding.weight[following])
            wrong = torch.sigmoid(h @ model.embedding.weight[drawn[len(losses)]])
            losses.append(-right.log() - (1 - wrong).log())
    torch.testing.assert_close(found, 0.5 * torch.stack(losses).mean())
    model(ITEMS[:1], torch.tensor([0, 1]), TARGETS[:1])
    assert model.auxiliary_loss() is None  # nothing follows


def test_no_auxiliary_loss_in_evaluation() -> None:
    model = small("dien")
    model(ITEMS, OFFSETS, TARGETS)
    assert model.auxiliary_loss() is None


@pytest.mark.parametrize("name", ["dien", "gru", "augru"])
def test_gradients_in_double_precision(name) -> None:
    model = small(name, activation="sigmoid").double()
    parameters = dict(model.named_parameters())

    def run(*values):
        given = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(model, given, (ITEMS, OFFSETS, TARGETS))

    assert torch.autograd.gradcheck(run, tuple(parameters.values()), fast_mode=True)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="DIEN: attention_mode is 'gru'; expected one of augru_"):
        DIEN(5, attention_mode="gru")
    with pytest.raises(ValueError, match="auxiliary_weight is -1; expected a number of at least 0"):
        DIEN(5, auxiliary_weight=-1)
