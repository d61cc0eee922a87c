"""Pickles of nnU-Net v1 (plans.pkl, *.model.pkl) as plain values, without running anything that they ask for.

A pickle is a program for a small machine: it pushes values on a stack, takes them off again, imports any name of any
module (GLOBAL), and calls what it imported (REDUCE). Whoever unpickles a stranger's file runs a stranger's program.

So the machine is replaced. Python's own is written in Python too, with a table from instruction to method; here that
table is filled anew:

- Instructions that build plain values are Python's own. All others, those of later versions too, are refused.
- GLOBAL looks a name up among five with which numpy and `collections` write data, and gives a mark, not the function.
- REDUCE and BUILD, which would call, put down a record of what the call would make: arrays stay bytes until a number
  is asked for, and only then are kind, shape and size held against each other.
- Keys of dicts must be flat: hashing one that is nested a million times deep would crash the interpreter.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from typing import Any, ClassVar

from bidsapp.errors import BadDataError
from bidsapp.printable import printable

HINT = "Files that need unpickling can run code; only plain values and arrays are read. Ask its owner for another copy."
DAMAGE = (
    pickle.UnpicklingError, struct.error, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, ValueError,
    MemoryError, RecursionError, AssertionError,
)  # fmt: skip
MAX_NUMBERS, MAX_DEPTH = 4096, 8
PLAIN_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
}


class _Function(Enum):
    """What a pickle may name; never called."""

    ORDERED_DICT = auto()
    ARRAY = auto()
    DTYPE = auto()
    RECONSTRUCT = auto()
    SCALAR = auto()


_FUNCTIONS = {
    ("collections", "OrderedDict"): _Function.ORDERED_DICT,
    ("numpy", "ndarray"): _Function.ARRAY,
    ("numpy", "dtype"): _Function.DTYPE,
    **{
        (f"numpy.{core}.multiarray", name): function
        for core in ("core", "_core")  # numpy 1, numpy 2
        for name, function in (("_reconstruct", _Function.RECONSTRUCT), ("scalar", _Function.SCALAR))
    },
}


@dataclass(eq=False)
class PickledDtype:
    """A kind of number as the pickle names it, such as ``f8``."""

    code: object
    order: object = "="


@dataclass(eq=False)
class PickledArray:
    """An array, or with no shape a number of numpy, as the pickle spells it; nothing of it is checked yet."""

    dtype: object = None
    shape: object = ()
    fortran: object = False
    content: object = b""


def read_pickle(content: bytes, origin: str) -> object:
    """What a pickle holds: plain values, dicts for OrderedDicts, `PickledArray` for what numpy wrote.

    Raises
    ------
    BadDataError
        When it names anything else than plain data, or is damaged.
    """
    try:
        return _PlainUnpickler(content, origin).load()
    except DAMAGE as error:
        reason = printable(str(error)[:200]) or type(error).__name__
        raise BadDataError(f"{origin} is cut off or damaged: {reason}", HINT) from error


def plain(value: object) -> Any:
    """Numbers, texts, lists and dicts of a value from `read_pickle`; tuples and arrays become lists.

    Raises
    ------
    ValueError
        When it is nested deeply or large, or holds arrays of something else than numbers.
    """
    return _plain(value, 0, count())


def _plain(value: object, depth: int, seen: Iterator[int]) -> Any:
    """One value; `seen` counts all, for a list may hold itself, or another a thousand times."""
    if depth > MAX_DEPTH or next(seen) > MAX_NUMBERS:
        raise ValueError("it is large or deeply nested")
    if isinstance(value, PickledArray):
        return _numbers(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one, depth + 1, seen) for one in value]
    if isinstance(value, dict):
        return {_plain(key, depth + 1, seen): _plain(one, depth + 1, seen) for key, one in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"it holds a value of the kind {type(value).__name__}")


def _numbers(array: PickledArray) -> Any:
    import numpy as np

    dtype, shape, content = array.dtype, array.shape, array.content
    if not isinstance(dtype, PickledDtype) or not re.fullmatch(r"[iu][1248]|f[248]|b1", str(dtype.code)):
        raise ValueError("it holds an array of something else than numbers")
    if not isinstance(shape, tuple) or not all(type(edge) is int and 0 <= edge <= MAX_NUMBERS for edge in shape):
        raise ValueError("it holds an array without a shape")
    kind = np.dtype(f"{'>' if dtype.order == '>' else '<'}{dtype.code}")
    numbers = math.prod(shape)
    if len(shape) > MAX_DEPTH or numbers > MAX_NUMBERS:
        raise ValueError("it holds a large array")
    if not isinstance(content, bytes) or len(content) != numbers * kind.itemsize:
        raise ValueError("it holds an array that is cut off")
    return np.frombuffer(content, kind).reshape(shape, order="F" if array.fortran else "C").tolist()


class _PlainUnpickler(pickle._Unpickler):
    """The machine. The one in C has no table to fill, and allocates whatever size a file declares."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {}

    def __init__(self, content: bytes, origin: str) -> None:
        super().__init__(io.BytesIO(content))
        self.stack: list[Any]
        self._origin = origin

    def find_class(self, module: str, name: str) -> Any:
        """Look up one of the five functions that may be named."""
        if (module, name) not in _FUNCTIONS:
            asked = printable(f"{module}.{name}"[:120])
            raise BadDataError(f"{self._origin} asks for {asked}, which is not plain data; nothing was run", HINT)
        return _FUNCTIONS[module, name]

    def refuse(self, what: str) -> None:
        """Stop at an instruction that plain data never has."""
        raise BadDataError(f"{self._origin} {what}, which plain data never does; nothing was run", HINT)

    def plain_reduce(self) -> None:
        """Put down what a call would make, without calling."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if function is _Function.ORDERED_DICT and arguments == ():
            self.stack[-1] = {}
        elif function is _Function.RECONSTRUCT:
            self.stack[-1] = PickledArray()
        elif function is _Function.DTYPE and arguments:
            self.stack[-1] = PickledDtype(arguments[0])
        elif function is _Function.SCALAR and len(arguments) == 2:
            self.stack[-1] = PickledArray(dtype=arguments[0], content=arguments[1])
        else:
            named = function.name if isinstance(function, _Function) else type(function).__name__
            self.refuse(f"calls {named} with {len(arguments)} arguments")

    def plain_build(self) -> None:
        """Fill an array or a dtype."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, PickledDtype):
            target.order = state[1]
        elif isinstance(target, PickledArray):
            _, target.shape, target.dtype, target.fortran, target.content = state
        else:
            self.refuse(f"sets attributes of a {type(target).__name__}")

    def plain_setitem(self) -> None:
        """Store under a key."""
        value, key = self.stack.pop(), self.stack.pop()
        self._store(self.stack[-1], [key, value])

    def plain_setitems(self) -> None:
        """Store several."""
        items = self.pop_mark()  # type: ignore[attr-defined]
        self._store(self.stack[-1], items)

    def plain_dict(self) -> None:
        """Store several in a new dict."""
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.append({})  # type: ignore[attr-defined]
        self._store(self.stack[-1], items)

    def _store(self, target: object, items: list[Any]) -> None:
        if not isinstance(target, dict):
            self.refuse(f"stores items in a {type(target).__name__}")
            return
        keys, values = items[::2], items[1::2]
        for key in keys:
            flat = key if isinstance(key, tuple) else (key,)
            if not all(isinstance(one, (str, int, float, PickledArray)) for one in flat):  # deep ones overflow hash()
                self.refuse(f"has a {type(key).__name__} as a key")
        target.update(zip(keys, values, strict=True))


def _refusal(name: str) -> Callable[[_PlainUnpickler], None]:
    return lambda unpickler: unpickler.refuse(f"uses the pickle instruction {name}")


_OWN: dict[str, Callable[[Any], None]] = {
    "REDUCE": _PlainUnpickler.plain_reduce,
    "BUILD": _PlainUnpickler.plain_build,
    "SETITEM": _PlainUnpickler.plain_setitem,
    "SETITEMS": _PlainUnpickler.plain_setitems,
    "DICT": _PlainUnpickler.plain_dict,
}
_PlainUnpickler.dispatch.update(
    {
        ord(opcode.code): _OWN.get(opcode.name, pickle._Unpickler.dispatch[ord(opcode.code)])
        if opcode.name in PLAIN_OPCODES
        else _refusal(opcode.name)
        for opcode in pickletools.opcodes
    }
)
