"""Functions that numba compiles, once on a machine.

What is compiled lies beside the module where its folder can be written, else in the user's own cache folder, or where
NUMBA_CACHE_DIR says. Where none of these can be written nothing is kept, and every process compiles again. The first
function that a process has to compile is told to the log, at level INFO (the commands show it); that nothing can be
kept is a warning.

numba compiles a function again when its file has changed. What it takes from other files, their functions and numbers,
is in the compiled code too: here it is part of what the code is kept under.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import threading
from pathlib import Path
from types import CodeType
from typing import Any, Dict, Iterator, Set, Tuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, event
from numba.extending import intrinsic

log = logging.getLogger(__name__)
_REMEDY = "set NUMBA_CACHE_DIR to a folder that can be written"


def compiled(function: Any) -> Any:
    """Compile a function for the types that it is called with, once on a machine: numba keeps what it has compiled."""
    options: Dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        dispatcher: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba's word for: none of its folders can be written
        _Told.nothing_kept()
        return numba.njit(**options)(function)
    # numba has no other place to catch what goes wrong in its files, or to say what else code depends on
    dispatcher._cache = _Cache(dispatcher._cache, function)
    return dispatcher


def inlined(function: Any) -> Any:
    """Compile a function into those that call it: one that takes many arrays costs more to call than to run."""
    return numba.njit(inline="always", nogil=True, error_model="numpy")(function)


def _borrowed(context: Any, arrays: Any) -> Any:
    """Return a named tuple's arrays, in compiled code, without counts of who holds them: each look into a tuple of
    counted arrays costs two locked instructions an array. Whoever calls must hold the arrays."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = values[0]
        for place, kind in enumerate(signature.args[0].types):
            array = context.make_array(kind)(context, builder, value=builder.extract_value(value, place))
            array.meminfo, array.parent = (part.type(None) for part in (array.meminfo, array.parent))
            value = builder.insert_value(value, array._getvalue(), place)
        return value

    return arrays(arrays), code


borrowed: Any = intrinsic(_borrowed)


def _prefetch(context: Any, array: Any, index: Any) -> Any:
    """Ask, in compiled code, for the memory of array[index], which is read soon. Nothing is read here: an index outside
    of the array does no harm."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, value=values[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        place = builder.bitcast(builder.gep(data, [values[1]]), byte)
        builder.call(call, [place, number(0), number(3), number(1)])  # to read, to be kept, data
        return context.get_dummy_value()

    return types.void(array, index), code


prefetch: Any = intrinsic(_prefetch)


def depends_on(function: Any) -> str:
    """Return a hash of what a compiled function takes from outside of its own text: the files of the functions that it
    calls, theirs likewise, and the values of numbers."""
    parts: Set[Tuple[str, str]] = set()
    _collect(function, parts, set())
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()


def _collect(function: Any, parts: Set[Tuple[str, str]], seen: Set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    parts.add(("", _hash_of(function.__code__.co_filename)))
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        called = getattr(value, "py_func", None) or getattr(value, "_defn", None)  # of a dispatcher, of an intrinsic
        if called is not None:
            _collect(called, parts, seen)
        elif isinstance(value, (int, float, tuple, np.generic)):
            parts.add((name, repr(value)))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@functools.cache
def _hash_of(file: str) -> str:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:  # of a notebook, say: numba looks after what is in it
        return file


class _Cache:
    """A function's cache of numba's, without which its work goes on: a full disk or a damaged file costs time, and no
    answer."""

    def __init__(self, cache: Any, function: Any) -> None:
        self._cache = cache
        key, depends = cache._index_key, functools.cache(lambda: depends_on(function))
        cache._index_key = lambda *arguments: (*key(*arguments), depends())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception as error:  # whatever reading a damaged file leads to
            log.warning("%s: a damaged file, compiled again: %s", self._cache.cache_path, error)
            with contextlib.suppress(OSError):
                self._cache.flush()
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            self._cache.save_overload(*arguments)
        except OSError as error:
            _Told.nothing_kept(f"{self._cache.cache_path}: {error.strerror or error}")


class _Told(event.Listener):
    """What the log is told, each thing once in a process."""

    compiling = unkept = False
    _lock = threading.Lock()

    @classmethod
    def nothing_kept(cls, why: str = "no cache folder can be written") -> None:
        with cls._lock:
            told, cls.unkept = cls.unkept, True
        if not told:
            log.warning("compiled functions are not kept, each process compiles them again: %s; %s", why, _REMEDY)

    def on_start(self, event: Any) -> None:
        dispatcher: Any = (event.data or {}).get("dispatcher")
        function = getattr(dispatcher, "py_func", None)
        if _Told.compiling or not getattr(function, "__module__", "").startswith("hybrid."):
            return
        with self._lock:
            told, _Told.compiling = _Told.compiling, True
        folder = dispatcher.stats.cache_path
        if not told and folder is None:
            log.info("compiling for this machine, some 10 to 60 s")
        elif not told:
            log.info("compiling for this machine, once, some 10 to 60 s; kept in %s", folder)

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Told())

