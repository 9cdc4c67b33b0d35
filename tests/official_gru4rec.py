"""Checkpoints as the official PyTorch GRU4Rec writes them, and the scores that it gives.

The forward pass is stated here once more, step by step. What is saved has the class names, the
attributes and the parameter names of that program, and the pandas objects that it keeps.
"""

from __future__ import annotations

import contextlib
import sys
import types
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn


def _named(module: str, name: str) -> Any:
    """Class decorator: pickles refer to the class by this name."""

    def rename(cls: type) -> type:
        cls.__module__, cls.__name__, cls.__qualname__ = module, name, name
        _STAND_INS[module, name] = cls
        return cls

    return rename


_STAND_INS: dict[tuple[str, str], Any] = {}


@_named("gru4rec_pytorch", "GRUEmbedding")
class ItemGates(nn.Module):
    """The first layer without an embedding: gates n, r, z; z is the share of the new state."""

    def __init__(self, n_items: int, size: int) -> None:
        super().__init__()
        self.Wx0 = nn.Embedding(n_items, 3 * size, sparse=True)
        self.Wrz0 = nn.Parameter(torch.empty(size, 2 * size))
        self.Wh0 = nn.Parameter(torch.empty(size, size))
        self.Bh0 = nn.Parameter(torch.empty(3 * size))

    def forward(self, items: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        size = h.shape[1]
        gates = self.Wx0.weight[items] + self.Bh0
        recurrent = h @ self.Wrz0
        r = torch.sigmoid(gates[:, size : 2 * size] + recurrent[:, :size])
        z = torch.sigmoid(gates[:, 2 * size :] + recurrent[:, size:])
        new = torch.tanh(gates[:, :size] + (r * h) @ self.Wh0)
        return z * new + (1 - z) * h


@_named("gru4rec_pytorch", "GRU4RecModel")
class Model(nn.Module):
    def __init__(self, n_items: int, layers: list[int], embedding: int, constrained: bool) -> None:
        super().__init__()
        self.n_items, self.layers, self.embedding = n_items, layers, embedding
        self.constrained_embedding = constrained
        self.dropout_p_embed, self.dropout_p_hidden = 0.25, 0.5
        width = layers[-1] if constrained else embedding
        if not constrained and embedding:
            self.E = nn.Embedding(n_items, embedding, sparse=True)
        elif not constrained:
            self.GE = ItemGates(n_items, layers[0])
        start = 0 if width else 1
        below = [width, *layers]
        self.DE = nn.Dropout(self.dropout_p_embed)
        self.G = nn.ModuleList(nn.GRUCell(below[i], layers[i]) for i in range(start, len(layers)))
        self.D = nn.ModuleList(nn.Dropout(self.dropout_p_hidden) for _ in self.G)
        self.Wy = nn.Embedding(n_items, layers[-1], sparse=True)
        self.By = nn.Embedding(n_items, 1, sparse=True)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4)

    @torch.no_grad()
    def scores(self, items: list[int]) -> np.ndarray:
        """Return (n_items,) scores after the items of a session, without dropout."""
        states = [torch.zeros(1, size) for size in self.layers]
        for item in torch.tensor(items, dtype=torch.int64):
            if hasattr(self, "GE"):
                states[0] = self.GE(item[None], states[0])
                continue
            x = (self.E if hasattr(self, "E") else self.Wy).weight[item][None]
            for layer, cell in enumerate(self.G):
                x = states[layer] = cell(x, states[layer])
        return (states[-1] @ self.Wy.weight.T + self.By.weight.T)[0].numpy()


class Plain:
    """An object with the attributes that it is given."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


@_named("gru4rec_pytorch", "GRU4Rec")
class Program(Plain):
    def loss_with_softmax(self) -> None:
        """Stand for a bound method among the attributes, which a pickle holds as a getattr."""


@_named("gru4rec_pytorch", "SessionDataIterator")
class DataIterator(Plain):
    pass


@_named("gru4rec_pytorch", "SampleCache")
class SampleCache(Plain):
    pass


class Call:
    """Pickled as the call of a function, then a state."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class _Manager:
    def __init__(self, state: Any) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state


def _class(module: str, name: str, base: type = Plain) -> Any:
    return _named(module, name)(type(name, (base,), {}))


def _function(module: str, name: str) -> Any:
    def function(*args: Any) -> None:
        raise AssertionError(f"{name} is for pickling only")

    return _named(module, name)(function)


SingleBlockManager = _class("pandas.core.internals.managers", "SingleBlockManager", _Manager)
new_index = _function("pandas.core.indexes.base", "_new_Index")
unpickle_backed = _function("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked")
StringDtype = _function("pandas", "StringDtype")
StringArray = _class("pandas.arrays", "StringArray")
ArrowStringArray = _class("pandas.arrays", "ArrowStringArray")
NEW_SERIES, NEW_INDEX = _class("pandas", "Series"), _class("pandas", "Index")
OLD_SERIES = _class("pandas.core.series", "Series")
OLD_INDEX = _class("pandas.core.indexes.base", "Index")
INT64_INDEX = _class("pandas.core.indexes.numeric", "Int64Index")


def series(labels: Any, positions: Any, series_class: Any = NEW_SERIES, index: Any = NEW_INDEX):
    """Return what a pandas Series is pickled as."""
    axis = Call(new_index, index, {"data": labels, "name": None})
    block = {"values": positions, "mgr_locs": slice(0, len(positions), 1)}
    extra = {"0.14.1": {"axes": [axis], "blocks": [block]}}
    manager = SingleBlockManager(([axis], [positions], [axis], extra))
    return series_class(_mgr=manager, _typ="series", attrs={}, name="ItemIdx")


def item_map(ids: list[Any], form: str = "pandas 3") -> Any:
    """Return the map from ids to positions as a version of pandas keeps it."""
    positions = np.arange(len(ids), dtype=np.int32)
    if form == "pandas 3":
        return series(np.array(ids, dtype=None if isinstance(ids[0], int) else object), positions)
    if form == "pandas 1":
        number = isinstance(ids[0], int)
        labels = np.array(ids, dtype=np.int64 if number else object)
        return series(labels, positions, OLD_SERIES, INT64_INDEX if number else OLD_INDEX)
    if form == "StringArray":
        state = (Call(StringDtype, "python", float("nan")), np.array(ids, dtype=object))
        return series(Call(unpickle_backed, StringArray, 82904607, None, state=state), positions)
    if form in ("string", "large_string"):
        import pyarrow as pa

        # a slice: its offsets do not start at 0
        array = pa.array(["before", *ids], getattr(pa, form)())[1:]
        return series(ArrowStringArray(_pa_array=array), positions)
    raise AssertionError(form)


def program(
    mode: str = "tied",
    layers: tuple[int, ...] = (12,),
    ids: Any = None,
    form: str = "pandas 3",
    seed: int = 0,
) -> Program:
    """Return an object such as the official program saves, of random parameters."""
    ids = [7 * i + 3 for i in range(9)] if ids is None else ids
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(len(ids), list(layers), 5 if mode == "separate" else 0, mode == "tied")
    samples = SampleCache(n_sample=4, neg_samples=torch.arange(8), distr=torch.ones(9))
    made = Program(device=torch.device("cpu"), layers=list(layers), model=model, logq=0.0)
    made.loss_function = made.loss_with_softmax
    made.data_iterator = DataIterator(
        itemidmap=item_map(ids, form), data_items=np.arange(6, dtype=np.int32), sample_cache=samples
    )
    return made


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Let the stand-ins be found under their names while they are pickled."""
    modules: dict[str, types.ModuleType] = {}
    for (module, name), value in _STAND_INS.items():
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            modules.setdefault(path, types.ModuleType(path))
        setattr(modules[module], name, value)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def save(saved: Any, path: Any) -> None:
    """Write a checkpoint."""
    with importable():
        torch.save(saved, path)


def rewrite(path: Any, changes: dict[str, bytes | None], compression: int = 0) -> None:
    """Replace entries of a checkpoint, by their name below its folder; None removes one."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            new = changes.get(name.partition("/")[2], content)
            if new is not None:
                archive.writestr(name, new)
