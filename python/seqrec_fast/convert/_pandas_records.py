"""Item ids out of a pickled pandas Series, for pandas 1 to 3, without pandas."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.convert._pickle_records import Record
from seqrec_fast.data.vocabulary import Ids

_STRING_OFFSETS = {"string": "<i4", "large_string": "<i8"}
_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
# an array of strings takes as much for each as for the longest
_MAX_LENGTH = 1024


def ids_by_position(series: Any, where: str) -> Ids:
    """Return the labels of a Series in the order of its values, 0 to n - 1.

    Parameters
    ----------
    series : Record
        A Series of distinct integers 0 to n - 1.
    where : str
        What messages begin with.

    Returns
    -------
    (n,) int64 or str array

    Raises
    ------
    ValueError
        If it is no such Series, or its labels are neither integers nor strings.
    """
    try:
        state = series.state
        manager = state["_mgr"] if "_mgr" in state else state["_data"]
        # written alike since pandas 0.14.1
        parts = manager.state[3]["0.14.1"]
        index, values = parts["axes"][0], parts["blocks"][0]["values"]
        if index.name != "pandas.core.indexes.base _new_Index":
            raise ValueError(f"its index is {index.name}")
        ids = _labels(index.args[1]["data"])
        positions = _array(values)
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} is no pandas Series that can be read without pandas: {error!r}"
        ) from error
    expected = np.arange(len(ids))
    if not np.array_equal(np.sort(positions), expected):
        raise ValueError(
            f"{where} maps {len(ids)} ids to {len(positions)} positions; expected each of 0 to "
            f"{len(ids) - 1} once"
        )
    return ids[np.argsort(positions)]


def _labels(data: Record) -> Ids:
    if data.name.endswith(" ArrowStringArray"):
        return _arrow_strings(data.state["_pa_array"])
    if data.name == "pandas._libs.arrays __pyx_unpickle_NDArrayBacked":
        # the state is the dtype, the array and, in newer versions, a dict
        data = next(part for part in data.state if _is_array(part))
    return cast("Ids", _array(data))


def _is_array(part: Any) -> bool:
    return isinstance(part, Record) and part.name.endswith(".multiarray _reconstruct")


def _array(data: Record) -> Any:
    """Return a one-dimensional array of integers or strings."""
    if not _is_array(data):
        raise ValueError(f"{data.name} in place of an array")
    _, (count,), dtype, _, content = data.state
    if dtype.name != "numpy dtype":
        raise ValueError(f"{dtype.name} in place of a dtype")
    kind = dtype.args[0]
    if kind in ("O", "O8"):
        values: NDArray[Any] = _from_objects(content)
    elif kind in _INTEGERS:
        order = ">" if dtype.state[1] == ">" else "<"
        values = np.frombuffer(_bytes(content), order + kind)
        if kind == "u8" and values.size and values.max() > np.iinfo(np.int64).max:
            raise ValueError(f"it holds {values.max()}; expected integers below 2**63")
        values = values.astype(np.int64)
    else:
        shown = kind if isinstance(kind, str) and len(kind) < 9 else "of another kind"
        raise ValueError(f"it holds values of dtype {shown}; expected integers or strings")
    if len(values) != count:
        raise ValueError(f"an array of {len(values)} values; its shape says otherwise")
    return values


def _from_objects(values: list[Any]) -> Ids:
    if all(isinstance(value, str) for value in values):
        return _strings(values)
    if all(type(value) is int for value in values):
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError as error:
            raise ValueError(str(error)) from error
    raise ValueError("it holds objects; expected only integers or only strings")


def _arrow_strings(array: Record) -> Ids:
    if array.name != "pyarrow.lib _restore_array":
        raise ValueError(f"{array.name} in place of an Arrow array")
    kind, count, _, begin, buffers = array.args[0][:5]
    if kind.name != "pyarrow.lib type_for_alias" or kind.args[0] not in _STRING_OFFSETS:
        raise ValueError("an Arrow array of another type than string")
    if buffers[0] is not None:
        raise ValueError("it has missing values")
    bounds, text = (_bytes(_argument(part, "pyarrow.lib py_buffer")) for part in buffers[1:])
    offsets = np.frombuffer(bounds[: len(bounds) // 8 * 8], _STRING_OFFSETS[kind.args[0]])
    offsets = offsets[begin : begin + count + 1]
    if begin < 0 or len(offsets) != count + 1 or offsets[0] < 0 or offsets[-1] > len(text):
        raise ValueError("string offsets outside of the text")
    if (np.diff(offsets) < 0).any():
        raise ValueError("string offsets that decrease")
    ends = offsets.tolist()
    return _strings([text[ends[i] : ends[i + 1]].decode() for i in range(count)])


def _strings(values: list[str]) -> NDArray[np.str_]:
    longest = max(map(len, values), default=0)
    if longest > _MAX_LENGTH:
        raise ValueError(f"an id of {longest} characters; expected at most {_MAX_LENGTH}")
    return np.array(values, dtype=np.str_)


def _bytes(data: Any) -> bytes:
    """Return bytes, which protocol 2 writes as the Latin-1 text that encodes to them."""
    if isinstance(data, Record) and data.name.endswith(" bytearray") and data.args:
        data = data.args[0]
    if data.name.endswith(" bytes") and not data.args:
        return b""
    text: str = _argument(data, "_codecs encode")
    return text.encode("latin-1")


def _argument(call: Record, name: str) -> Any:
    if call.name != name:
        raise ValueError(f"{call.name} in place of {name}")
    return call.args[0]
