"""Exact top-k of tensors, with gradients of the scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqrec_fast.index import ItemIndex, index_of_number
from seqrec_fast.index import topk as topk_of_arrays

from . import _devices
from ._checks import check_tensor
from ._differentiable import differentiable
from ._tensors import add_at
from ._topk_cuda import topk_cuda

__all__ = ["topk"]

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "topk(Tensor queries, Tensor items, SymInt k, Tensor? bias, Tensor? excluded,"
    " Tensor? exclude_offsets, Tensor? allow=None) -> (Tensor scores, Tensor ids)"
)
# An index is no tensor: operators know it by its number.
_library.define(
    "index_topk(Tensor queries, int index, SymInt k, Tensor? excluded, Tensor? exclude_offsets,"
    " Tensor? allow=None) -> (Tensor scores, Tensor ids)"
)
_library.define("index_rows(int index, Tensor ids, SymInt dim) -> Tensor")


def _array(tensor: Tensor) -> Any:
    return tensor.detach().numpy()


def _exclude(values: Tensor | None, offsets: Tensor | None) -> tuple[Any, Any] | None:
    return None if values is None or offsets is None else (_array(values), _array(offsets))


def _tensors(pair: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])


def _topk_cpu(
    queries: Tensor,
    items: Tensor,
    k: int,
    bias: Tensor | None,
    excluded: Tensor | None,
    exclude_offsets: Tensor | None,
    allow: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return _tensors(
        topk_of_arrays(
            _array(queries),
            _array(items),
            k,
            bias=None if bias is None else _array(bias),
            exclude=_exclude(excluded, exclude_offsets),
            allow=None if allow is None else _array(allow),
        )
    )


def _index_topk_cpu(
    queries: Tensor,
    index: int,
    k: int,
    excluded: Tensor | None,
    exclude_offsets: Tensor | None,
    allow: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    exclude = _exclude(excluded, exclude_offsets)
    mask = None if allow is None else _array(allow)
    found = index_of_number(index).topk(_array(queries), k, exclude=exclude, allow=mask)
    return _tensors(found)


def _index_rows_cpu(index: int, ids: Tensor, dim: int) -> Tensor:
    found = index_of_number(index)
    if len(found) == 0:  # then no id is one
        return torch.zeros(*ids.shape, dim)
    return torch.from_numpy(found.rows(_array(ids)))


def _fake(queries: Tensor, second: Any, k: int, *rest: Any) -> tuple[Tensor, Tensor]:
    shape = [*queries.shape[:-1], k]
    return queries.new_empty(shape), queries.new_empty(shape, dtype=torch.int64)


def _index_rows_fake(index: int, ids: Tensor, dim: int) -> Tensor:
    return ids.new_empty([*ids.shape, dim], dtype=torch.float32)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, items, _, bias, *_ = inputs
    ctx.save_for_backward(queries, items, bias, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _found(dscores: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients and ids as (B, k), with zeros where there is no item."""
    width = ids.shape[-1]
    dscores = torch.where(ids >= 0, dscores, 0.0).reshape(-1, width)
    return dscores, ids.clamp(min=0).reshape(-1, width)


def _backward(ctx: Any, dscores: Tensor | None, dids: Tensor | None) -> tuple[Tensor | None, ...]:
    queries, items, bias, ids = ctx.saved_tensors
    if dscores is None:
        return (None,) * 7
    dscores, ids = _found(dscores, ids)
    batch = queries.reshape(-1, queries.shape[-1])
    dqueries = ditems = dbias = None
    if items.shape[0] == 0:
        dscores, ids = dscores[:, :0], ids[:, :0]
    if ctx.needs_input_grad[0]:
        dqueries = torch.einsum("bk,bkd->bd", dscores, items[ids]).reshape(queries.shape)
    if ctx.needs_input_grad[1]:
        outer = dscores[..., None] * batch[:, None]
        ditems = add_at(torch.zeros_like(items), ids.reshape(-1), outer.flatten(0, 1))
    if ctx.needs_input_grad[3]:
        dbias = add_at(torch.zeros_like(bias), ids.reshape(-1), dscores.reshape(-1))
    return dqueries, ditems, None, dbias, None, None, None


def _index_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.index, ctx.shape = inputs[1], inputs[0].shape
    ctx.alive = index_of_number(inputs[1])
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _index_backward(
    ctx: Any, dscores: Tensor | None, dids: Tensor | None
) -> tuple[Tensor | None, ...]:
    if dscores is None:
        return (None,) * 6
    dscores, ids = _found(dscores, ctx.saved_tensors[0])
    rows = torch.ops.seqrec_fast.index_rows(ctx.index, ids, ctx.shape[-1])
    return torch.einsum("bk,bkd->bd", dscores, rows).reshape(ctx.shape), *(None,) * 5


_library.impl("topk", _topk_cpu, "CPU")
if "CUDA" in _devices.DEVICES:
    _library.impl("topk", topk_cuda, "CUDA")
_library.impl("index_topk", _index_topk_cpu, "CPU")
_library.impl("index_rows", _index_rows_cpu, "CPU")
torch.library.register_fake("seqrec_fast::topk", _fake, lib=_library)
torch.library.register_fake("seqrec_fast::index_topk", _fake, lib=_library)
torch.library.register_fake("seqrec_fast::index_rows", _index_rows_fake, lib=_library)
_topk = differentiable("topk", _backward, _setup, _library, _topk_cpu)
_index_topk = differentiable("index_topk", _index_backward, _index_setup, _library, _index_topk_cpu)


def _single(argument: str, tensor: Tensor) -> Tensor:
    check_tensor("topk", argument, tensor)
    if tensor.dtype in (torch.bfloat16, torch.float16):
        return tensor.float()
    if tensor.dtype != torch.float32:
        raise TypeError(
            f"topk: {argument} is {tensor.dtype}; expected float32, bfloat16 or float16"
        )
    return tensor


def topk(
    queries: Tensor,
    items: Tensor | ItemIndex,
    k: int,
    *,
    bias: Tensor | None = None,
    exclude: tuple[Tensor, Tensor] | None = None,
    allow: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """
    Return the k best items for each query, exactly, with gradients of their scores.

    Order, ties and NaN are as :class:`seqrec_fast.ItemIndex` has them. It traces through
    ``torch.compile(fullgraph=True)``.

    Parameters
    ----------
    queries : (B, d) or (d,) Tensor
        float32; bfloat16 and float16 are computed as float32. On the CPU or on CUDA, as all
        tensors; an ItemIndex is on the CPU.
    items : (N, d) Tensor of these dtypes, or ItemIndex
        A tensor is read as it is, so that it may change between calls. For one that does not, an
        index is faster.
    k : int
        At least 1; may exceed the number of items.
    bias : (N,) Tensor of these dtypes, optional
        Added to the scores. An index has its own.
    exclude : tuple of two int64 tensors, optional
        ``(values, offsets)``: query b gets none of ``values[offsets[b]:offsets[b + 1]]``. On CUDA
        they are not checked, and ids that do not exist are passed over.
    allow : (N,) or (B, N) bool tensor, optional
        The items that may be returned, by default all.

    Returns
    -------
    scores : (B, k) or (k,) float32 tensor
        Descending; -inf where fewer than k items are left. Their gradient reaches queries, items
        and bias; an index is constant.
    ids : (B, k) or (k,) int64 tensor
        -1 where fewer than k items are left.

    Raises
    ------
    TypeError
        If a tensor has another dtype.
    ValueError
        If k is below 1, a shape does not fit, an excluded id is out of range, or bias is given
        with an index.
    """
    values, offsets = (None, None) if exclude is None else exclude
    if isinstance(items, ItemIndex):
        if bias is not None:
            raise ValueError("topk: bias is given; an ItemIndex has its own")
        found: tuple[Tensor, Tensor] = _index_topk(
            _single("queries", queries), items.number, k, values, offsets, allow
        )
        return found
    found = _topk(
        _single("queries", queries), _single("items", items), k,
        None if bias is None else _single("bias", bias), values, offsets, allow,
    )  # fmt: skip
    return found
