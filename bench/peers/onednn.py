"""oneDNN's GRU, LSTM, AUGRU: `pip install onednn-devel-cpu-gomp==2023.2.0`, and a C++ compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from bench.peers import PeerMissingError

_FOLDER = Path(__file__).parent


def _program(name: str) -> str:
    """Compile a peer once for this source and installation."""
    source, prefix = _FOLDER / f"{name}.cpp", Path(sys.prefix)
    if not (prefix / "include/oneapi/dnnl/dnnl.hpp").exists():
        raise PeerMissingError("pip package onednn-devel-cpu-gomp is not installed")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise PeerMissingError("there is no C++ compiler")
    digest = hashlib.sha256(source.read_bytes() + str(prefix).encode()).hexdigest()[:16]
    program = Path(tempfile.gettempdir()) / f"seqrec_fast_{name}_{digest}"
    if not program.exists():
        library = next((prefix / "lib").glob("libdnnl.so*"), None)
        if library is None:
            raise PeerMissingError("oneDNN's shared library is not installed")
        command = [compiler, "-O2", "-std=c++17", f"-I{prefix}/include", str(source), str(library)]
        temporary = f"{program}.{os.getpid()}"
        command += [f"-Wl,-rpath,{library.parent}", "-o", temporary]
        subprocess.run(command, check=True)
        os.replace(temporary, program)
    return str(program)


def _parameters(module: torch.nn.RNNBase) -> list[np.ndarray]:
    """weight_ih, weight_hh and bias in oneDNN's layout, z before r."""
    gates, hidden = module.weight_hh_l0.shape[0] // module.hidden_size, module.hidden_size
    order = [0, 1, 2, 3] if gates == 4 else [1, 0, 2]

    def by_gate(parameter: torch.Tensor) -> np.ndarray:
        return parameter.detach().numpy().reshape(gates, hidden, -1)[order]

    bias_ih, bias_hh = by_gate(module.bias_ih_l0), by_gate(module.bias_hh_l0)
    bias = bias_ih + bias_hh
    if gates == 3:
        bias = np.concatenate([bias[:2], bias_ih[2:], bias_hh[2:]])
    weights = [by_gate(w).transpose(2, 0, 1) for w in (module.weight_ih_l0, module.weight_hh_l0)]
    return [*weights, bias]


class _Peer:
    """A process that runs a layer whenever it is called; `seconds` are those of its last run."""

    def __init__(self, program: str, arguments: list[str], arrays: list[np.ndarray]) -> None:
        program = _program(program)
        with tempfile.NamedTemporaryFile(delete=False) as file:
            for array in arrays:
                file.write(np.ascontiguousarray(array, np.float32).tobytes())
            path, inputs = file.name, file.tell()
        self._process = subprocess.Popen(
            [program, *arguments, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.seconds = 0.0
        self._run()
        with open(path, "rb") as file:
            file.seek(inputs)
            self._results = np.frombuffer(file.read(), np.float32)
        os.unlink(path)

    def _run(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise PeerMissingError(f"oneDNN refused the layer, exit status {self._process.wait()}")
        self.seconds = float(answer)

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.communicate()  # closes the pipes too


class OneDnnLayer(_Peer):
    """Inference of a GRU or LSTM."""

    def __init__(self, module: torch.nn.GRU | torch.nn.LSTM, x: torch.Tensor, dtype: str) -> None:
        kind = "lstm" if isinstance(module, torch.nn.LSTM) else "gru"
        self._shape = (x.shape[0], x.shape[1], module.hidden_size)
        sizes = [str(n) for n in self._shape]
        super().__init__("onednn_rnn", [kind, dtype, *sizes], [x.numpy(), *_parameters(module)])

    def __call__(self) -> np.ndarray:
        self._run()
        return self._results.reshape(self._shape)


class OneDnnTraining(_Peer):
    """Forward and backward of a GRU, or of an AUGRU if there is attention (T, B)."""

    def __init__(
        self,
        module: torch.nn.RNNBase,
        x: torch.Tensor,
        attention: torch.Tensor | None,
        dy: torch.Tensor,
    ) -> None:
        self._shape = tuple(x.shape)
        kind = "gru" if attention is None else "augru"
        scores = torch.zeros(x.shape[:2]) if attention is None else attention
        super().__init__(
            "onednn_training",
            [kind, *(str(n) for n in self._shape)],
            [t.detach().numpy() for t in (x, scores)] + _parameters(module) + [dy.numpy()],
        )

    def __call__(self) -> list[torch.Tensor]:
        """Output, gradient of the input, gradient of the attention."""
        self._run()
        sizes = [int(np.prod(self._shape))] * 2
        y, dx, dattention = np.split(self._results, np.cumsum(sizes))
        shapes = (self._shape, self._shape, self._shape[:2])
        parts = zip((y, dx, dattention), shapes, strict=True)
        return [torch.tensor(part).reshape(shape) for part, shape in parts]
