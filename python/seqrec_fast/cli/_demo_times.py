"""Answers and times of a model file: by this package without PyTorch, and by PyTorch."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqrec_fast.io import ModelFile

Times = dict[str, float]

CASES = {
    "event": "a new event, then the best {k}",
    "session": "a session of {length} events",
    "batch": "each of {batch} such sessions",
}

_SERVE = (
    "import sys; sys.modules['torch'] = None; "
    "from seqrec_fast.cli._demo_times import serve; serve()"
)


def served(path: str, sessions: list[list[int]], k: int, repeats: int) -> dict[str, Any]:
    """Answer `sessions` in a process in which torch cannot be imported.

    Returns ``items`` and ``scores`` of all sessions and ``times``, microseconds for each of
    ``CASES``.
    """
    question = {"path": path, "sessions": sessions, "k": k, "repeats": repeats}
    run = subprocess.run(
        [sys.executable, "-c", _SERVE],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise RuntimeError(f"the process that serves the model failed:\n{run.stderr}")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def serve() -> None:
    """Read a question of :func:`served` from the standard input and write the answer."""
    import seqrec_fast as sf

    question = json.load(sys.stdin)
    sessions, k = question["sessions"], question["k"]
    sf.set_num_threads(1)
    recommender = sf.load(question["path"])
    store = recommender.sessions()
    event = sessions[0][-1:]

    def push_and_recommend() -> None:
        store.push(["visitor"], event)
        store.recommend(["visitor"], k)

    items, scores = recommender.recommend(sessions, k)
    times = _times(
        push_and_recommend,
        lambda: recommender.recommend(sessions[:1], k),
        lambda: recommender.recommend(sessions, k),
        len(sessions),
        question["repeats"],
    )
    json.dump({"items": items.tolist(), "scores": scores.tolist(), "times": times}, sys.stdout)


def torch_served(
    file: ModelFile, sessions: list[list[int]], k: int, repeats: int
) -> dict[str, Any]:
    """Do the same with ``torch.nn`` in this process, on one thread; sessions are indices.

    The batch is padded on the right, as a program for ``torch.nn.GRU`` would do it.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tensors = {name: torch.from_numpy(tensor) for name, tensor in file.tensors.items()}
    embedding, bias = tensors["embedding.weight"], tensors["output.bias"]
    output = tensors.get("output.weight", embedding).t().contiguous()
    rnn = torch.nn.GRU(embedding.shape[1], file.config["hidden_size"], file.config["num_layers"])
    names = {name[4:]: tensor for name, tensor in tensors.items() if name.startswith("rnn.")}
    rnn.load_state_dict(names)
    state = torch.zeros(rnn.num_layers, 1, rnn.hidden_size)
    event = torch.tensor(sessions[0][-1:])

    def push_and_recommend() -> None:
        nonlocal state
        _, state = rnn(embedding[event][None], state)
        torch.addmm(bias, state[-1], output).topk(k)

    def recommend(some: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        items = pad_sequence([torch.tensor(session) for session in some])
        hidden, _ = rnn(embedding[items])
        last = torch.tensor([len(session) - 1 for session in some])
        top: tuple[torch.Tensor, torch.Tensor] = torch.addmm(
            bias, hidden[last, torch.arange(len(some))], output
        ).topk(k)
        return top

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            scores, items = recommend(sessions)
            times = _times(
                push_and_recommend,
                lambda: recommend(sessions[:1]),
                lambda: recommend(sessions),
                len(sessions),
                repeats,
            )
    finally:
        torch.set_num_threads(threads)
    return {"items": items.tolist(), "scores": scores.tolist(), "times": times}


def _times(
    event: Callable[[], object],
    session: Callable[[], object],
    batch: Callable[[], object],
    batch_size: int,
    repeats: int,
) -> Times:
    return {
        "event": _median(event, repeats),
        "session": _median(session, repeats),
        "batch": _median(batch, max(3, repeats // 20)) / batch_size,
    }


def _median(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call in microseconds."""
    for _ in range(max(1, repeats // 10)):
        call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6
