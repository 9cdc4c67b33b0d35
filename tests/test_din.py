"""DIN and the base of click-through models: definition, model file, options."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from click_cases import ITEMS, N_ITEMS, NAMES, OFFSETS, TARGETS, histories, small
from seqrec_fast.data import ItemVocabulary
from seqrec_fast.io import load_model
from seqrec_fast.models import DIN, RecurrentCTR

names = pytest.mark.parametrize("name", NAMES)
VOCABULARY = ItemVocabulary([f"i{i}" for i in range(N_ITEMS)])


def test_din_is_its_definition() -> None:
    model = small("din")
    logits = model(ITEMS, OFFSETS, TARGETS)
    for b, items in enumerate(histories()):
        e, q = model.embedding(items), model.embedding(TARGETS[b])
        same = q.expand_as(e)
        weights = model.attention.mlp(torch.cat([same, e, same - e, same * e], 1))
        mean = e.mean(0) if len(e) else torch.zeros(6)
        joined = torch.cat([q, mean, q * mean, (weights[:, None] * e).sum(0)])
        torch.testing.assert_close(logits[b], model.head(joined[None])[0])


@names
def test_a_history_has_its_logit_in_any_batch(name) -> None:
    model = small(name)
    together = model(ITEMS, OFFSETS, TARGETS)
    for b, items in enumerate(histories()):
        alone = model(items, torch.tensor([0, len(items)]), TARGETS[b : b + 1])
        torch.testing.assert_close(together[b], alone[0])
    nobody = model(ITEMS[:0], torch.tensor([0, 0]), TARGETS[:1])
    torch.testing.assert_close(nobody[0], together[1] if TARGETS[1] == TARGETS[0] else nobody[0])
    assert model(ITEMS[:0], torch.tensor([0]), TARGETS[:0]).shape == (0,)


@names
def test_order_matters_to_recurrent_models_alone(name) -> None:
    model = small(name)
    turned = ITEMS.clone()
    turned[:3] = ITEMS[:3].flip(0)
    same = torch.allclose(model(turned, OFFSETS, TARGETS), model(ITEMS, OFFSETS, TARGETS))
    assert same == name.startswith("din")


@names
def test_gradients_reach_every_parameter(name) -> None:
    model = small(name).train()
    loss = model(ITEMS, OFFSETS, TARGETS).sum()
    added = model.auxiliary_loss()
    assert (added is not None) == (name == "dien")
    (loss if added is None else loss + added).backward()
    for part, parameter in model.named_parameters():
        assert parameter.grad is not None, part
        assert torch.isfinite(parameter.grad).all(), part
    assert model.auxiliary_loss() is None
    copy.deepcopy(model)


@names
def test_float64(name) -> None:
    model = small(name)
    single = model(ITEMS, OFFSETS, TARGETS)
    double = model.double()(ITEMS, OFFSETS, TARGETS)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)


@names
def test_seed_fixes_the_parameters(name) -> None:
    first, second, other = small(name), small(name), small(name, seed=4)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.head.first.weight, other.head.first.weight)


@names
def test_predictor_equals_the_model(name, tmp_path) -> None:
    model, path = small(name), tmp_path / "model.safetensors"
    model.export(path, VOCABULARY)
    assert load_model(path).config == model.config
    predictor = sf.load(path)
    expected = model(ITEMS, OFFSETS, TARGETS).detach()
    ids = VOCABULARY.ids
    sessions = [ids[items.numpy()] for items in histories()]
    found = predictor.predict(sessions, ids[TARGETS.numpy()])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.sigmoid(), atol=1e-6)
    logits = predictor.logits(ITEMS.numpy(), OFFSETS.numpy(), TARGETS.numpy())
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    ragged = predictor.predict(ids[ITEMS.numpy()], ids[TARGETS.numpy()], offsets=OFFSETS.numpy())
    np.testing.assert_array_equal(ragged, found)
    # to the last bit, whoever else is in the batch
    for b, session in enumerate(sessions):
        alone = predictor.predict([session], ids[TARGETS[b : b + 1].numpy()])
        assert alone[0] == found[b]
    # candidates share a history
    every = predictor.predict(sessions, np.tile(ids, (4, 1)))
    own = every[np.arange(4), TARGETS.numpy()]
    np.testing.assert_array_equal(own, found)
    many = predictor.predict(sessions[:1], np.tile(ids, (1, 200)))  # scored in blocks
    np.testing.assert_array_equal(many, np.tile(every[:1], (1, 200)))
    assert repr(predictor).startswith(f"ClickPredictor({model.model_name}, n_items=11")


def test_unknown_items(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    small("din").export(path, VOCABULARY)
    predictor = sf.load(path)
    found = predictor.predict([["i3", "new", "i1"], ["new"], ["i3", "i1"]], ["i2", "i2", "sock"])
    known = predictor.predict([["i3", "i1"], []], ["i2", "i2"])
    np.testing.assert_array_equal(found[:2], known)
    assert np.isnan(found[2])
    assert predictor.unknown_items == 2
    assert predictor.predict([], []).shape == (0,)
    assert predictor.predict([["i3"]], [[]]).shape == (1, 0)


def test_errors_of_the_predictor(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    small("din").export(path, VOCABULARY)
    predictor = sf.load(path)
    with pytest.raises(ValueError, match=r"targets has shape \(1,\); expected \(2,\)"):
        predictor.predict([["i3"], []], ["i1"])
    with pytest.raises(TypeError, match=r"ClickPredictor.predict: histories\[0\] is 'i3'"):
        predictor.predict(["i3"], ["i1"])
    with pytest.raises(ValueError, match=r"ClickPredictor\.predict: offsets go from 0 to 2"):
        predictor.predict(["i3"], ["i1"], offsets=[0, 2])
    with pytest.raises(ValueError, match="precision is 'bfloat16'; expected 'float32' for DIN"):
        sf.load(path, precision="bfloat16")
    with pytest.raises(ValueError, match="precision is 'half'"):
        sf.load(path, precision="half")


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_other_precisions_of_recurrent_layers(tmp_path, precision) -> None:
    path = tmp_path / "model.safetensors"
    model = small("gru")
    model.export(path, VOCABULARY)
    logits = sf.load(path, precision=precision).logits(
        ITEMS.numpy(), OFFSETS.numpy(), TARGETS.numpy()
    )
    expected = model(ITEMS, OFFSETS, TARGETS).detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=0.1)
    assert not np.array_equal(logits, expected)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_items": 0}, "n_items is 0; expected an integer of at least 1"),
        ({"embedding_dim": 2.0}, r"embedding_dim is 2.0; expected an integer"),
        ({"attention_sizes": ()}, r"attention_sizes is \[\]; expected a list"),
        ({"head_sizes": (4, 0)}, r"head_sizes is \[4, 0\]"),
        ({"activation": "gelu"}, "activation is 'gelu'; expected one of relu, prelu"),
        ({"dropout": 1}, "dropout is 1; expected 0 <= dropout < 1"),
        ({"dropout_embedding": -0.1}, "dropout_embedding is -0.1"),
        ({"softmax": 1}, "softmax is 1; expected True or False"),
    ],
)
def test_bad_options_are_named(option, message) -> None:
    with pytest.raises(ValueError, match="DIN: " + message):
        DIN(**{"n_items": 5, **option})
    if "cell" not in option:
        with pytest.raises(ValueError, match="RecurrentCTR: cell is 'rnn'"):
            RecurrentCTR(5, cell="rnn")


def test_errors_of_the_call() -> None:
    model = small("din")
    with pytest.raises(IndexError):
        model(ITEMS + 3, OFFSETS, TARGETS)
    with pytest.raises(ValueError, match="AttentionPooling: offsets ends at 8; expected 7"):
        model(ITEMS[:-1], OFFSETS, TARGETS)
    with pytest.raises(ValueError, match=r"query has shape \(3, 6\); expected \(4, 6\)"):
        model(ITEMS, OFFSETS, TARGETS[:3])
    with pytest.raises(ValueError, match="vocabulary has 2 items; expected 11"):
        model.export("model.safetensors", ItemVocabulary([1, 2]))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = small("din", dropout=0.5, dropout_embedding=0.5)
    assert torch.equal(model(ITEMS, OFFSETS, TARGETS), model(ITEMS, OFFSETS, TARGETS))
    model.train()
    assert not torch.equal(model(ITEMS, OFFSETS, TARGETS), model(ITEMS, OFFSETS, TARGETS))


def test_a_damaged_file_is_named(tmp_path) -> None:
    from seqrec_fast.io import save_model

    model, path = small("din"), tmp_path / "model.safetensors"
    tensors = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    for change, message in (
        ({"embedding_dim": 5}, "embedding.weight is float32 of shape"),
        ({"activation": "tanh"}, "config: activation is 'tanh'"),
        ({"attention_sizes": "5"}, "config: attention_sizes is '5'"),
        ({"attention_sizes": [5]}, "unexpected tensor attention.mlp.activations.1.weight"),
    ):
        with pytest.raises(ValueError, match=message):
            save_model(path, "din", {**model.config, **change}, tensors, VOCABULARY.ids)
    with pytest.raises(ValueError, match="model is 'dim'; expected 'gru4rec'"):
        save_model(path, "dim", model.config, tensors, VOCABULARY.ids)
