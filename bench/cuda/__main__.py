"""
CUDA kernels beside PyTorch and cuDNN on one GPU, medians of events.

    python -m bench.cuda [--only gate,gru] [--markdown FILE]

Competitors take turns. What the GPU's memory does not hold is left out and named.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from bench.cuda.cases import CASES, Runs


def milliseconds(runs: Runs, rounds: int = 15) -> dict[str, float]:
    """Return the median time of each, in turns, after two rounds that do not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            if number >= 2:
                times[name].append(begin.elapsed_time(end))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cuda", description=__doc__)
    parser.add_argument("--only", help="beginnings of names, separated by commas")
    parser.add_argument("--markdown", type=Path, help="file to write the table to")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench.cuda: there is no GPU")
        return
    device = torch.cuda.get_device_properties(0)
    title = (
        f"{device.name}, compute capability {device.major}.{device.minor}; CUDA "
        f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, torch {torch.__version__}"
    )
    print(title)
    lines = [f"{title}\n", "| case | ours | peer | peer / ours |", "|---|---|---|---|"]
    wanted = arguments.only.split(",") if arguments.only else [""]
    for name, case in CASES.items():
        if not any(name.startswith(start) for start in wanted):
            continue
        try:
            found = milliseconds(case(device="cuda", small=False))
        except torch.cuda.OutOfMemoryError as error:
            print(f"{name}: left out, {str(error).splitlines()[0]}", flush=True)
            continue
        ours = found.pop("ours")
        for peer, time in found.items():
            line = f"| {name} | {ours:.3f} ms | {peer} {time:.3f} ms | {time / ours:.2f} |"
            print(line, flush=True)
            lines.append(line)
        torch.cuda.empty_cache()
    if arguments.markdown is not None:
        arguments.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
