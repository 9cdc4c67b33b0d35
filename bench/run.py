"""
Print speed beside the peers on this machine, one thread.

    OMP_NUM_THREADS=1 python -m bench.run [suite ...]

Competitors take turns in one process; the ratio is the median over rounds of their time over ours.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import seqrec_fast as sf
from bench import (
    bench_augru,
    bench_click_through,
    bench_dispatch,
    bench_gate,
    bench_gru,
    bench_lstm,
    bench_rnn,
    bench_sampling,
    bench_small,
    bench_streaming,
    bench_theme_mixture,
    bench_topk,
    bench_training,
    rnn_inference,
)
from bench.paired import WARMUP_ROUNDS, paired


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    pairs = (line.partition(":") for line in lines)
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
    flags = [flag for flag in wanted if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name', 'processor unknown')}; {' '.join(flags)}"


def report(
    title: str,
    runs: dict[str, Callable[[], object]],
    rounds: int,
    warmup_rounds: int = WARMUP_ROUNDS,
) -> None:
    for name, (seconds, ratio) in paired(runs, rounds, warmup_rounds).items():
        print(f"{title:52} {name:20} {seconds * 1e3:9.3f} ms {ratio:7.2f}x", flush=True)


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
    """One session, and top-k, with the kernels of machines that have no more than AVX2."""
    with sf.force_target("avx2"):
        inference([rnn_inference.Case("GRU", 50, 1, 128, peers=("onnxruntime",))])
        best_items(bench_topk.AVX2)


def with_threads(n: int, run: Callable[[], object]) -> Callable[[], object]:
    def timed() -> object:
        sf.set_num_threads(n)
        return run()

    return timed


def two_and_one(run: Callable[[], object]) -> dict[str, Callable[[], object]]:
    return {"two threads": with_threads(2, run), "one thread": with_threads(1, run)}


def scaling() -> None:
    """One thread over two, also for top-k; and one process beside a second one."""
    run = rnn_inference.runs_of(rnn_inference.Case("GRU", 50, 256, 128, peers=()))[0]["seqrec_fast"]
    runs = two_and_one(run)
    report("GRU B=256", runs, 21)
    command = [sys.executable, "-m", "bench.busy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        report("GRU B=256 beside another process", {"one thread": runs["one thread"]}, 21)
        report("the same", {"two threads": runs["two threads"]}, 21)
        other.kill()
    for shape in bench_topk.SCALING:
        problem = bench_topk.Problem(shape)
        runs = two_and_one(bench_topk.ours(problem))
        bench_topk.check(problem, runs)
        report(f"top-k {shape}", runs, 21)
    sf.set_num_threads(1)


def rnn() -> None:
    for task, shape in bench_rnn.CASES:
        runs = task(shape)
        bench_rnn.check(runs)
        rounds = 60 if shape.batch == 1 else 11
        report(f"{task.__name__} {shape}", runs, rounds)


def best_items(shape: bench_topk.Shape) -> None:
    problem = bench_topk.Problem(shape)
    runs, missing = bench_topk.runs_of(problem)
    print(*missing, sep="\n", end="\n" if missing else "")
    bench_topk.check(problem, runs)
    work = shape.n_items * shape.dim * shape.n_queries
    report(f"top-k {shape}", runs, 5 if work > 1e9 else 15)


def topk() -> None:
    for shape in bench_topk.SHAPES:
        best_items(shape)
    best_items(bench_topk.POPULAR)
    for shape in (bench_topk.POPULAR, bench_topk.POPULAR._replace(popular=False)):
        print(f"top-k {shape}: {bench_topk.statistics(bench_topk.Problem(shape))}", flush=True)


def training() -> None:
    for catalogue in bench_training.LOSSES:
        runs = bench_training.losses(catalogue)
        bench_training.check(runs)
        report(str(catalogue), runs, 3)
    for step in bench_training.STEPS:
        runs, missing = bench_training.steps(step)
        print(*missing, sep="\n", end="\n" if missing else "")
        report(f"{step}, an epoch", runs, 3)


def sampling() -> None:
    for name, runs_of in bench_sampling.CASES.items():
        report(name, runs_of(), 5 if "4096" in name else 21)


def theme_mixture() -> None:
    for shape in bench_theme_mixture.SHAPES:
        report(str(shape), bench_theme_mixture.runs_of(shape), 7)


def dispatch() -> None:
    for make, shape in bench_dispatch.CASES:
        runs = make(shape)
        bench_dispatch.check(runs)
        report(str(shape), runs, 15)


def augru() -> None:
    for shape in bench_augru.SHAPES:
        bench_augru.check(bench_augru.layers(shape._replace(steps=50))[0])
        runs, missing = bench_augru.layers(shape)
        print(*missing, sep="\n", end="\n" if missing else "")
        ports = {name: runs[name] for name in ("augru_paper", "step loop of ports")}
        del runs["step loop of ports"]
        report(str(shape), runs, 5)
        report(str(shape), ports, 1, 0)  # half a minute for 1000 steps
    for experts in bench_augru.EXPERTS:
        runs = bench_augru.experts(experts)
        bench_augru.check_experts(runs)
        report(str(experts), runs, 11)


def gate() -> None:
    for shape in bench_gate.SHAPES:
        runs = bench_gate.runs_of(shape)
        bench_gate.check(runs)
        report(str(shape), runs, 15 if shape.rows > 1 else 300)


def small() -> None:
    for name in bench_small.PAIRS:
        for backward in (False, True):
            runs = bench_small.runs_of(name, backward)
            bench_small.check(runs)
            report(f"{name} {'forward+backward' if backward else 'forward'}", runs, 300)


def click_through() -> None:
    for make, shape in bench_click_through.CASES:
        runs = make(shape)
        bench_click_through.check(runs)
        report(f"{make.__name__} {shape}", runs, 7)


SUITES = {
    "gru": lambda: inference(bench_gru.CASES),
    "augru": augru,
    "lstm": lambda: inference(bench_lstm.CASES),
    "streaming": streaming,
    "avx2": avx2,
    "scaling": scaling,
    "rnn": rnn,
    "topk": topk,
    "training": training,
    "sampling": sampling,
    "dispatch": dispatch,
    "theme_mixture": theme_mixture,
    "gate": gate,
    "small": small,
    "click_through": click_through,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    print(f"{machine()}; target {sf.active_target()}; torch {torch.__version__}; one thread")
    for suite in sys.argv[1:] or SUITES:
        if suite not in SUITES:
            sys.exit(f"bench.run: '{suite}' is unknown; expected {', '.join(SUITES)}")
        SUITES[suite]()
