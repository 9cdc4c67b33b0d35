"""What the tests of item indices share."""

from __future__ import annotations

import numpy as np

from seqrec_fast import ItemIndex


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def ragged(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return np.concatenate([np.asarray(row, np.int64) for row in lists]), offsets


def best_of(index, queries, k, allowed):
    """The answer if items outside `allowed`, a set for each query, are excluded."""
    everything = np.arange(len(index))
    return index.topk(queries, k, exclude=ragged([np.setdiff1d(everything, a) for a in allowed]))


def ints(*values):
    return np.array(values, np.int64)


def shards(items, bias, bounds, scan):
    return [
        ItemIndex(
            items[begin:end],
            bias=None if bias is None else bias[begin:end],
            scan=scan,
            id_offset=begin,
            n_ids=len(items),
        )
        for begin, end in bounds
    ]
