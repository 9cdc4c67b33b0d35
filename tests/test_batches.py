from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from seqrec_fast.data import Sessions, simulate
from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import SessionParallelBatches, WholeSessionBatches, run

SESSIONS = simulate(90, n_items=40, n_themes=4, n_categories=8, mean_length=5, seed=1).sessions
SIMPLE = Sessions.from_lists([[1, 2, 3], [4, 5], [9], [6, 7, 8, 1, 2], [3, 3]])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pairs(sessions: Sessions) -> list[tuple[int, int]]:
    return sorted(pair for s in range(len(sessions)) for pair in pairwise(sessions[s].tolist()))


def batch_pairs(batches) -> list[tuple[int, int]]:
    seen = []
    for batch in batches.epoch(rng()):
        assert batch.offsets[-1] == len(batch.items) == len(batch.targets)
        seen += zip(batch.items.tolist(), batch.targets.tolist(), strict=True)
    return sorted(seen)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
@pytest.mark.parametrize("length", [1, 3, 1000])
@pytest.mark.parametrize("kind", [WholeSessionBatches, SessionParallelBatches])
@pytest.mark.parametrize("sessions", [SIMPLE, SESSIONS], ids=["simple", "simulated"])
def test_no_pair_of_events_is_lost_or_doubled(kind, sessions, batch_size, length) -> None:
    batches = kind(sessions, batch_size, length)
    assert batch_pairs(batches) == pairs(sessions)
    assert len(list(batches.epoch(rng()))) == len(batches)


def test_whole_sessions_are_cut_where_they_are_too_long() -> None:
    sessions = Sessions.from_lists([[0, 1, 2, 3, 4, 5]])
    (batch,) = WholeSessionBatches(sessions, 10, 2).epoch(rng())
    stretches = sorted(part.tolist() for part in batch.items.tensor_split(batch.offsets[1:-1]))
    assert stretches == [[0, 1], [2, 3], [4]]
    assert batch.reset is None


def test_whole_sessions_come_in_an_order_that_the_generator_draws() -> None:
    batches = WholeSessionBatches(SESSIONS, 8, 100)
    orders = [
        torch.cat([b.items for b in batches.epoch(np.random.default_rng(seed))]).tolist()
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_session_parallel_batches_by_hand() -> None:
    sessions = Sessions.from_lists([[1, 2, 3], [4, 5], [], [6, 7, 8, 9], [0, 3]])
    # lane 0: 1 2 | 0; lane 1: 4 | 6 7 8, which is the longer one and so comes first
    steps = [
        (batch.items.tolist(), batch.targets.tolist(), batch.reset.tolist())
        for batch in SessionParallelBatches(sessions, 2).epoch(rng())
    ]
    assert steps == [
        ([4, 1], [5, 2], [True, True]),
        ([6, 2], [7, 3], [True, False]),
        ([7, 0], [8, 3], [False, True]),
        ([8], [9], [False]),
    ]


def test_session_parallel_batches_are_in_order_of_time() -> None:
    late_first = Sessions([1, 2, 3, 4], [0, 2, 4], times=[9.0, 10.0, 1.0, 2.0])
    items = [batch.items.item() for batch in SessionParallelBatches(late_first, 1).epoch(rng())]
    assert items == [3, 1]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bptt", [1, 2, 5])
def test_carried_state_gives_the_states_of_whole_sessions(cell, bptt) -> None:
    model = GRU4Rec(40, embedding_dim=8, hidden_size=8, cell=cell, seed=0).eval()
    hidden, _ = model(torch.from_numpy(SESSIONS.items), torch.from_numpy(SESSIONS.offsets))
    last = set((SESSIONS.offsets[1:] - 1).tolist())
    inner = [e for e in range(SESSIONS.n_events) if e not in last]
    expected = model.scores(hidden[inner])[range(len(inner)), SESSIONS.items[np.add(inner, 1)]]
    seen, state = [], None
    for batch in SessionParallelBatches(SESSIONS, 7, bptt).epoch(rng()):
        state = run._carried(state, len(batch.offsets) - 1)
        h, state = model(batch.items, batch.offsets, state, batch.reset)
        seen.append(model.scores(h)[range(len(h)), batch.targets])
    torch.testing.assert_close(torch.cat(seen).sort()[0], expected.sort()[0])


def test_batches_need_a_session_of_two_events() -> None:
    with pytest.raises(ValueError, match="none of 2 sessions has two events"):
        WholeSessionBatches(Sessions.from_lists([[1], [2]]), 1, 1)
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        SessionParallelBatches(SIMPLE, 0)
