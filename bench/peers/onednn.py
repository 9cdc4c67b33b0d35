"""oneDNN's GRU and LSTM: `pip install onednn-devel-cpu-gomp==2023.2.0`, and a C++ compiler."""

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

_SOURCE = Path(__file__).with_name("onednn_rnn.cpp")


def _program() -> str:
    """Compile the peer once for this source and installation."""
    prefix = Path(sys.prefix)
    if not (prefix / "include/oneapi/dnnl/dnnl.hpp").exists():
        raise PeerMissingError("pip package onednn-devel-cpu-gomp is not installed")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise PeerMissingError("there is no C++ compiler")
    digest = hashlib.sha256(_SOURCE.read_bytes() + str(prefix).encode()).hexdigest()[:16]
    program = Path(tempfile.gettempdir()) / f"seqrec_fast_onednn_{digest}"
    if not program.exists():
        library = next((prefix / "lib").glob("libdnnl.so*"), None)
        if library is None:
            raise PeerMissingError("oneDNN's shared library is not installed")
        command = [compiler, "-O2", "-std=c++17", f"-I{prefix}/include", str(_SOURCE), str(library)]
        temporary = f"{program}.{os.getpid()}"
        command += [f"-Wl,-rpath,{library.parent}", "-o", temporary]
        subprocess.run(command, check=True)
        os.replace(temporary, program)
    return str(program)


class OneDnnLayer:
    """A process that runs a layer whenever it is called; `seconds` are those of its last run."""

    def __init__(self, module: torch.nn.GRU | torch.nn.LSTM, x: torch.Tensor, dtype: str) -> None:
        gates = 4 if isinstance(module, torch.nn.LSTM) else 3
        # oneDNN has z before r.
        order = [0, 1, 2, 3] if gates == 4 else [1, 0, 2]
        hidden = module.hidden_size

        def by_gate(parameter: torch.Tensor) -> np.ndarray:
            return parameter.detach().numpy().reshape(gates, hidden, -1)[order]

        bias_ih, bias_hh = by_gate(module.bias_ih_l0), by_gate(module.bias_hh_l0)
        bias = bias_ih + bias_hh
        if gates == 3:
            bias = np.concatenate([bias[:2], bias_ih[2:], bias_hh[2:]])
        weights = [
            by_gate(w).transpose(2, 0, 1) for w in (module.weight_ih_l0, module.weight_hh_l0)
        ]
        self._shape = (x.shape[0], x.shape[1], hidden)
        program = _program()
        with tempfile.NamedTemporaryFile(delete=False) as file:
            for array in (x.numpy(), *weights, bias):
                file.write(np.ascontiguousarray(array, np.float32).tobytes())
            self._path, self._inputs = file.name, file.tell()
        kind = "lstm" if gates == 4 else "gru"
        sizes = [str(n) for n in self._shape]
        self._process = subprocess.Popen(
            [program, kind, dtype, *sizes, self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.seconds = 0.0
        self()
        with open(self._path, "rb") as file:
            file.seek(self._inputs)
            self.output = np.frombuffer(file.read(), np.float32).reshape(self._shape)
        os.unlink(self._path)

    def __call__(self) -> np.ndarray:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise PeerMissingError(f"oneDNN refused the layer, exit status {self._process.wait()}")
        self.seconds = float(answer)
        return self.__dict__.get("output", np.empty(0, np.float32))

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.communicate()  # closes the pipes too
