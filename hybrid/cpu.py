"""Which matrix kernels the processor gets, and how many threads.

torch 1.13 carries Intel's MKL 2020.0, which gives AMD processors its slowest kernels unless it is told that the
processor has AVX2. Measured on an AMD EPYC, one thread, float32: 21 -> 83 GFLOP/s for [1440, 320] x [320, 1280]
and 22 -> 67 for [16, 320] x [320, 1280] (one step of an LSTM). Later MKLs do not read the variable.
"""

from __future__ import annotations

import os
from pathlib import Path

_VARIABLE = "MKL_DEBUG_CPU_TYPE"


def prefer_fast_kernels(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Sets MKL_DEBUG_CPU_TYPE=5 (AVX2) on AMD processors that have AVX2; a value set by the user stays.

    MKL reads the variable at its first call: call this before any matrix product. Returns whether it was set here.
    """
    if _VARIABLE in os.environ:
        return False
    try:
        with Path(cpuinfo).open(encoding="utf-8", errors="replace") as stream:
            head = stream.read(8192)
    except OSError:
        return False
    words = set(head.split())
    if "AuthenticAMD" not in words or "avx2" not in words or "fma" not in words:
        return False
    os.environ[_VARIABLE] = "5"
    return True
