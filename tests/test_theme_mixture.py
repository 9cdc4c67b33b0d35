from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from seqrec_fast.data import Sessions, simulate_hopping
from seqrec_fast.models import ThemeMixture
from seqrec_fast.models._theme_parts import session_mean_so_far, theme_mutual_information
from seqrec_fast.training import Trainer, TrainingOptions, evaluate

N_ITEMS = 64


@pytest.fixture(scope="module")
def histories() -> Sessions:
    return simulate_hopping(7, N_ITEMS, 4, n_categories=4, length=(1, 50), seed=8).sessions


def made(**options) -> ThemeMixture:
    defaults = {"hidden_size": 10, "n_themes": 4, "dropout_embedding": 0, "dropout_hidden": 0}
    return ThemeMixture(N_ITEMS, **{**defaults, "seed": 2, **options})


def tensors(sessions: Sessions) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return tuple(map(torch.from_numpy, (sessions.items, sessions.offsets, sessions.times)))


def run(model: ThemeMixture, sessions: Sessions, with_times: bool = True) -> torch.Tensor:
    items, offsets, times = tensors(sessions)
    inputs = model.input_table[items]
    return model.run(inputs, offsets, times=times if with_times else None)[0]


class Definition:
    """The equations of the class, for one history, event by event, in float64."""

    def __init__(self, model: ThemeMixture) -> None:
        self.w = {name: t.detach().double().numpy() for name, t in model.state_dict().items()}
        self.config = model.config

    def _step(self, rnn: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        w_ih, w_hh, b_ih, b_hh = (self.w[f"{rnn}.{name}"] for name in names)
        i_r, i_z, i_n = np.split(w_ih @ x + b_ih, 3)
        h_r, h_z, h_n = np.split(w_hh @ h + b_hh, 3)
        r, z = 1 / (1 + np.exp(-i_r - h_r)), 1 / (1 + np.exp(-i_z - h_z))
        return (1 - z) * np.tanh(i_n + r * h_n) + z * h

    def logits(self, e: np.ndarray) -> np.ndarray:
        return self.w["gate.weight"] @ (8 * e / np.linalg.norm(e))

    def route(self, logits: np.ndarray) -> list[tuple[float, int]]:
        p = np.exp(logits - logits.max())
        p /= p.sum()
        return [(p[m], int(m)) for m in np.argsort(-p, kind="stable")[: self.config["k"]]]

    def run(self, items: np.ndarray, times: np.ndarray | None) -> list[np.ndarray]:
        size = self.config["hidden_size"]
        self.h, self.h_m = np.zeros(size), np.zeros((self.config["n_themes"], size))
        self.session: list[np.ndarray] = []
        hidden, self.routes = [], []
        for number, item in enumerate(items):
            if times is None:
                ends = number % self.config["session_window"] == 0
            else:
                ends = number > 0 and times[number] - times[number - 1] > self.config["session_gap"]
            if ends:
                self.session = []
            e = self.w["embedding.weight"][item]
            self.session.append(e)
            self.h = self._step("global_rnn", e, self.h)
            told = [self.h, np.mean(self.session, axis=0)]
            if self.config["n_themes"]:
                route = self.route(np.mean([self.logits(x) for x in self.session], axis=0))
                for _, m in route:
                    self.h_m[m] = self._step("theme_rnn", e, self.h_m[m])
                told.append(sum(p * self.h_m[m] for p, m in route))
                self.routes.append(route)
            hidden.append(self.w["fusion.weight"] @ np.concatenate(told) + self.w["fusion.bias"])
        return hidden

    def click(self, target: int) -> float:
        """The logit of a click after :meth:`run`."""
        q = self.w["embedding.weight"][target]
        told = [self.h, np.mean(self.session, axis=0)]
        told.append(sum(p * self.h_m[m] for p, m in self.route(self.logits(q))))
        hidden = self.w["fusion.weight"] @ np.concatenate(told) + self.w["fusion.bias"]
        x = np.concatenate([q, hidden, q * hidden])
        x = np.maximum(self.w["head.0.weight"] @ x + self.w["head.0.bias"], 0)
        more = self.w["head.2.weight"] @ x + self.w["head.2.bias"]
        return float(more[0] + q @ hidden + self.w["output.bias"][target])


@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("options", [{}, {"k": 2}, {"n_themes": 0}, {"n_themes": 1}])
def test_run_equals_the_definition(histories, options, with_times) -> None:
    model = made(session_window=3, **options).double().eval()
    hidden = run(model, histories, with_times)
    definition = Definition(model)
    for begin, end in pairwise(histories.offsets):
        times = histories.times[begin:end] if with_times else None
        expected = definition.run(histories.items[begin:end], times)
        np.testing.assert_allclose(hidden[begin:end].detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_themes_equal_the_definition(histories, k) -> None:
    model = made(k=k).eval()
    weights, themes = model.themes(*tensors(histories))
    definition = Definition(model)
    for begin, end in pairwise(histories.offsets):
        definition.run(histories.items[begin:end], histories.times[begin:end])
        routes = np.array(definition.routes)
        np.testing.assert_allclose(weights[begin:end].detach(), routes[:, :, 0], rtol=1e-4)
        assert (themes[begin:end].numpy() == routes[:, :, 1]).all()


@pytest.mark.parametrize("k", [1, 2])
def test_click_equals_the_definition(histories, k) -> None:
    model = made(task="click-through", k=k).double().eval()
    items, offsets, times = tensors(histories)
    targets = torch.arange(7) * 9
    logits = model(items, offsets, targets, times)
    definition = Definition(model)
    for b, (begin, end) in enumerate(pairwise(histories.offsets)):
        definition.run(histories.items[begin:end], histories.times[begin:end])
        np.testing.assert_allclose(logits[b].item(), definition.click(int(targets[b])), rtol=1e-9)


def test_nothing_leaks_from_later_events(histories) -> None:
    model = made(k=2).eval()
    hidden = run(model, histories)
    for last in (1, 3, 10):
        shorter = histories.trimmed(last)
        kept = np.arange(histories.n_events) < np.repeat(
            histories.offsets[:-1] + shorter.lengths, histories.lengths
        )
        torch.testing.assert_close(run(model, shorter), hidden[torch.from_numpy(kept)])


def test_a_history_does_not_depend_on_the_others(histories) -> None:
    model = made().eval()
    hidden = run(model, histories)
    for user, (begin, end) in enumerate(pairwise(histories.offsets)):
        alone = run(model, histories.select([user]))
        torch.testing.assert_close(alone, hidden[begin:end])


def test_empty_histories() -> None:
    model = made(task="click-through")
    none = torch.zeros(0, dtype=torch.int64)
    logits = model(none, torch.tensor([0, 0, 0]), torch.tensor([1, 1]))
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[0], logits[1])
    logits.sum().backward()
    some = model(torch.tensor([5, 6]), torch.tensor([0, 0, 2]), torch.tensor([1, 1]))
    torch.testing.assert_close(some[0], logits[0])
    assert model.run(model.input_table[none], torch.tensor([0]))[0].shape == (0, 10)


@pytest.mark.parametrize("k", [1, 2])
def test_gradients(k) -> None:
    sessions = simulate_hopping(2, N_ITEMS, 2, n_categories=4, length=(6, 9), seed=1).sessions
    model = made(hidden_size=3, n_themes=3, k=k).double().eval()
    items, offsets, times = tensors(sessions)
    # embeddings get no gradient from the gate, so they stay out of it
    inputs = model.input_table[items].detach()
    names = [name for name, _ in model.named_parameters() if name[:5] not in ("embed", "outpu")]

    class Run(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> torch.Tensor:
            return self.model.run(inputs, offsets, times=times)[0]

    def hidden(*values: torch.Tensor) -> torch.Tensor:
        named = {f"model.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Run(), named, ())

    parameters = dict(model.named_parameters())
    inputs_of_check = tuple(parameters[name] for name in names)
    assert torch.autograd.gradcheck(hidden, inputs_of_check, fast_mode=True)


def test_the_gate_gets_a_gradient_at_k_1(histories) -> None:
    model = made()
    run(model, histories).square().sum().backward()
    assert model.gate.weight.grad.abs().max() > 0


def test_auxiliary_loss_is_given_once(histories) -> None:
    model = made(task="click-through", theme_loss=2.0)
    items, offsets, times = tensors(histories)
    model(items, offsets, torch.arange(7), times)
    both = model.auxiliary_loss()
    assert both is not None
    assert model.auxiliary_loss() is None
    run(model, histories)
    themes = model.auxiliary_loss()
    hidden = run(model, histories)
    has_next = np.ones(len(items), bool)
    has_next[histories.offsets[1:] - 1] = False
    events = np.flatnonzero(has_next)
    next_items = torch.nn.functional.cross_entropy(model.scores(hidden[events]), items[events + 1])
    torch.testing.assert_close(both, themes + next_items)
    model.auxiliary_loss()
    run(model.eval(), histories)
    assert model.auxiliary_loss() is None


def test_session_mean_so_far(rng) -> None:
    lengths = [1, 7, 2, 16, 1, 5]
    values = torch.from_numpy(rng.normal(size=(sum(lengths), 3)))
    position = torch.cat([torch.arange(n) for n in lengths])
    means = session_mean_so_far(values, position)
    begin = 0
    for n in lengths:
        for i in range(n):
            expected = values[begin : begin + i + 1].mean(0)
            torch.testing.assert_close(means[begin + i], expected)
        begin += n


def test_mutual_information_has_its_bounds() -> None:
    position = torch.arange(2).repeat(40)
    same = torch.eye(4).repeat_interleave(2, 0).repeat(10, 1) * 100
    assert abs(theme_mutual_information(same, position) - np.log(4)) < 1e-6
    one = torch.zeros(80, 4)
    one[:, 2] = 100.0
    for worthless in (one, torch.zeros(80, 4)):
        assert abs(theme_mutual_information(worthless, position)) < 1e-6
    assert theme_mutual_information(one[:0], position[:0]) == 0


def options(**more) -> TrainingOptions:
    return TrainingOptions(
        **{"epochs": 3, "batch_size": 8, "max_length": 500, "lr": 0.01, "weight_decay": 0.0, **more}
    )


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_training_repeats_itself_bit_for_bit(loss) -> None:
    sessions = simulate_hopping(20, N_ITEMS, 4, n_categories=4, length=(20, 60), seed=1).sessions
    results = []
    for _ in range(2):
        model = made(dropout_hidden=0.1)
        history = Trainer(model, options(loss=loss, n_sample=32)).fit(sessions)
        results.append((model.state_dict(), [epoch.loss for epoch in history.epochs]))
    assert results[0][1] == results[1][1]
    assert results[0][1][-1] < results[0][1][0]
    for name, tensor in results[0][0].items():
        assert torch.equal(tensor, results[1][0][name]), name


def test_it_finds_the_themes_and_uses_them() -> None:
    simulation = simulate_hopping(
        60, N_ITEMS, 4, n_categories=4, n_paths=3, length=(100, 300), noise=0.02, seed=3
    )
    model = made(hidden_size=24)
    Trainer(model, options(epochs=20, lr=0.02)).fit(simulation.sessions)
    themes = model.themes(*tensors(simulation.sessions))[1][:, 0].numpy()
    counts = np.zeros((4, 4))
    np.add.at(counts, (simulation.themes, themes), 1)
    assert counts.max(axis=1).sum() > 0.7 * counts.sum()
    assert evaluate(model, simulation.sessions, (5,))["recall@5"] > 0.4


def test_times_matter(histories) -> None:
    model = made().eval()
    assert not torch.equal(run(model, histories), run(model, histories, with_times=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_items": 0}, "n_items is 0; expected at least 1"),
        ({"task": "other"}, "task is 'other'; expected one of next-item, click-through"),
        ({"n_themes": -1}, "n_themes is -1; expected 0 or more"),
        ({"k": 9}, "k is 9; expected 1 to n_themes=8"),
        ({"session_gap": 0}, "session_gap is 0; expected more than 0"),
        ({"theme_loss": -1}, "theme_loss is -1; expected 0 or more"),
        ({"dropout_hidden": 1}, "dropout_hidden is 1; expected 0 <= dropout_hidden < 1"),
    ],
)
def test_bad_parameters(options, message) -> None:
    with pytest.raises(ValueError, match=f"ThemeMixture: {message}"):
        ThemeMixture(**{"n_items": 5, **options})


def test_wrong_use() -> None:
    model = made()
    with pytest.raises(RuntimeError, match="task is 'next-item'; expected 'click-through'"):
        model(torch.tensor([1]), torch.tensor([0, 1]), torch.tensor([1]))
    sessions = Sessions.from_lists([[1, 2, 3]])
    with pytest.raises(ValueError, match="whole histories"):
        Trainer(model, TrainingOptions(batching="session-parallel")).fit(sessions)
