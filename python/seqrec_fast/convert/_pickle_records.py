"""Pickles as data: what a pickle would build is written down, and never built.

A pickle is a program that may call anything. Here its opcodes are read, and a call becomes a
record of the name and the arguments: nothing is imported, called or assigned to.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Global:
    """A class or function, as ``"module name"``."""

    name: str


@dataclass(eq=False, slots=True)
class Record:
    """An object: what `name` returns for `args`, with its state and its items set."""

    name: str
    args: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Persistent:
    """An object that lies outside of the pickle."""

    id: Any


class _Refused(ValueError):
    """The pickle is well formed, but holds what it must not."""


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_VALUES = {"BINFLOAT", "BININT", "BININT1", "BININT2", "BINUNICODE", "LONG1", "LONG4"}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(content: bytes, is_allowed: Callable[[str], bool], where: str) -> Any:
    """Return what a pickle of protocol 2 describes, with :class:`Record` for every object.

    Parameters
    ----------
    content : bytes
        The pickle.
    is_allowed : callable
        Whether a class or function, ``"module name"``, may occur.
    where : str
        What messages begin with.

    Raises
    ------
    ValueError
        If the pickle names a class or function that is not allowed, needs another protocol, or
        is truncated or otherwise invalid.
    """
    machine = _Machine(is_allowed, where)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except _Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{where} is truncated or no valid pickle: {error!r}") from error


class _Machine:
    """The stack of a pickle, its marks and its memo."""

    def __init__(self, is_allowed: Callable[[str], bool], where: str) -> None:
        self.stack: list[Any] = []
        self._below_mark: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._is_allowed = is_allowed
        self._where = where

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name == "MARK":
            self._below_mark.append(self.stack)
            self.stack = []
        elif name in ("TUPLE", *_SHORT_TUPLES):
            values = self._popped(_SHORT_TUPLES.get(name))
            self.stack.append(tuple(values))
        elif name in ("APPEND", "APPENDS"):
            values = self._popped(1 if name == "APPEND" else None)
            self._top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self._popped(2 if name == "SETITEM" else None))
        elif name == "GLOBAL":
            self._push_global(argument)
        elif name in ("REDUCE", "NEWOBJ"):
            called, args = self._popped(2)
            if not isinstance(called, Global) or not isinstance(args, tuple):
                raise _Refused(f"{self._where} calls what is no class or function")
            self.stack.append(Record(called.name, args))
        elif name == "BUILD":
            state = self.stack.pop()
            self._top(Record).state = state
        elif name == "BINPERSID":
            self.stack.append(Persistent(self.stack.pop()))
        elif name == "PROTO" and argument != 2:
            raise _Refused(f"{self._where} is a pickle of protocol {argument}; expected 2")
        elif name not in ("PROTO", "STOP"):
            raise _Refused(
                f"{self._where} has the opcode {name}; expected those of a pickle of protocol 2"
            )

    def _popped(self, count: int | None) -> list[Any]:
        """Return `count` values from the top of the stack, or all of them down to the mark."""
        if count is None:
            values, self.stack = self.stack, self._below_mark.pop()
            return values
        if count > len(self.stack):
            raise IndexError("the stack is empty")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"{type(self.stack[-1]).__name__} in place of {kind.__name__}")
        return self.stack[-1]

    def _set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Record) else self._top(dict)
        keys = values[::2]
        # the hash of tuples nested deeply enough overflows the stack of the process
        if not all(isinstance(key, str | int) for key in keys):
            raise _Refused(f"{self._where} has a dict whose keys are neither strings nor integers")
        items.update(zip(keys, values[1::2], strict=True))

    def _push_global(self, name: str) -> None:
        if not self._is_allowed(name):
            raise _Refused(
                f"{self._where} refers to {name.replace(' ', '.')[:200]}, which has no place in "
                "a checkpoint of this kind; nothing of it was run"
            )
        self.stack.append(Global(name))
