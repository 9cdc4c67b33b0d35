"""
Print speed beside the peers on this machine, one thread.

    OMP_NUM_THREADS=1 python -m bench.run [gru | lstm | streaming | avx2 | scaling | rnn | topk ...]

Competitors take turns in one process; the ratio is the median over rounds of their time over ours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import seqrec_fast as sf
from bench import bench_gru, bench_lstm, bench_rnn, bench_streaming, bench_topk, rnn_inference
from bench.paired import paired


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    pairs = (line.partition(":") for line in lines)
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
    flags = [flag for flag in wanted if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name', 'processor unknown')}; {' '.join(flags)}"


def report(title: str, runs: dict[str, Callable[[], object]], rounds: int) -> None:
    for name, (seconds, ratio) in paired(runs, rounds).items():
        print(f"{title:44} {name:20} {seconds * 1e3:9.3f} ms {ratio:7.2f}x", flush=True)


def inference(cases: list[rnn_inference.Case]) -> None:
    for case in cases:
        runs, missing = rnn_inference.runs_of(case)
        print(*missing, sep="\n", end="\n" if missing else "")
        rnn_inference.check(case, runs)
        report(str(case), runs, 60 if case.batch == 1 else 11)


def streaming() -> None:
    for task, precision in bench_streaming.CASES:
        runs, missing = task(precision)
        print(*missing, sep="\n", end="\n" if missing else "")
        report(
            f"{task.__name__} {precision}", runs, 300 if task is bench_streaming.one_user else 41
        )


def avx2() -> None:
    """One session with the kernels of machines that have no more than AVX2."""
    with sf.force_target("avx2"):
        inference([rnn_inference.Case("GRU", 50, 1, 128, peers=("onnxruntime",))])


def scaling() -> None:
    """The GRU at batch 256: one thread over two; and one process beside a second one."""
    run = rnn_inference.runs_of(rnn_inference.Case("GRU", 50, 256, 128, peers=()))[0]["seqrec_fast"]

    def with_threads(n: int) -> Callable[[], object]:
        def timed() -> object:
            sf.set_num_threads(n)
            return run()

        return timed

    report("GRU B=256", {"two threads": with_threads(2), "one thread": with_threads(1)}, 21)
    command = [sys.executable, "-m", "bench.busy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        report("GRU B=256 beside another process", {"one thread": with_threads(1)}, 21)
        report("the same", {"two threads": with_threads(2)}, 21)
        other.kill()
    sf.set_num_threads(1)


def rnn() -> None:
    for task, shape in bench_rnn.CASES:
        runs = task(shape)
        bench_rnn.check(runs)
        rounds = 60 if shape.batch == 1 else 11
        report(f"{task.__name__} {shape}", runs, rounds)


def topk() -> None:
    for name, (n_items, dim, n_queries, k) in bench_topk.SHAPES.items():
        rng = np.random.default_rng(0)
        items = rng.standard_normal((n_items, dim), dtype=np.float32)
        queries = rng.standard_normal((n_queries, dim), dtype=np.float32)
        runs = {}
        for make in bench_topk.COMPETITORS:
            try:
                runs[make.__name__] = make(items, queries, k)
            except ImportError as error:
                print(f"{name}: {make.__name__} left out, {error.name} is not installed")
        report(f"top-k {name}", runs, 5 if items.size * n_queries > 1e9 else 15)


SUITES = {
    "gru": lambda: inference(bench_gru.CASES),
    "lstm": lambda: inference(bench_lstm.CASES),
    "streaming": streaming,
    "avx2": avx2,
    "scaling": scaling,
    "rnn": rnn,
    "topk": topk,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    print(f"{machine()}; target {sf.active_target()}; torch {torch.__version__}; one thread")
    for suite in sys.argv[1:] or SUITES:
        if suite not in SUITES:
            sys.exit(f"bench.run: '{suite}' is unknown; expected {', '.join(SUITES)}")
        SUITES[suite]()
