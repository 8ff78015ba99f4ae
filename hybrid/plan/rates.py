"""What was measured on a machine, as JSON that `hybrid plan --rates` and `benchmarks.scaling --simulate` read.

    {"format": 1, "device": "cuda" or "cpu" (one core), "machine": "...",
     "teacher": {"model": "5x832b", "parameters": 78330808, "frames_per_second": 600000.0},
     "student": {"model": "5x768", "parameters": 24161208, "frames_per_second": 640000.0,
                 "batch": 8192, "seconds": [[0.012, 0.013, ...], ...]},
     "targets": {"k": 20, "senones": 3000, "bytes_per_frame": 46.5, "write": 46000.0, "read": 520000.0},
     "gtc": {"scan": 3e-09, "decode": 1e-08},
     "network": {"bandwidth": 1.2e10, "latency": 2e-05}     or     {"points": [[workers, bytes, seconds], ...]}}

teacher: forward, of one device. student: forward, loss, backward and update; `batch` frames a step and the seconds of
its steps, a row a worker. targets: frames a second of one core. gtc: seconds a parameter and a received element
(methods.py). points: of a ring all-reduce. Each part may be left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from hybrid.errors import DataError
from hybrid.io import PathLike, read_json
from hybrid.plan.network import Network, fit_network
from hybrid.plan.simulate import Measured

FORMAT = 1
DEVICES = ("cuda", "cpu")
_NUMBERS = {
    "teacher": ("parameters", "frames_per_second"),
    "student": ("parameters", "frames_per_second", "batch"),
    "targets": ("k", "senones", "bytes_per_frame", "write", "read"),
    "gtc": ("scan", "decode"),
}
_REMEDY = "measure again with hybrid plan --measure FILE"


@dataclass(frozen=True)
class Rates:
    """`parts` as the module's docstring says; those left out are absent."""

    device: str
    machine: str
    parts: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    network: Optional[Network] = None
    times: Optional[Measured] = None

    def to_dict(self) -> Dict[str, Any]:
        network: Dict[str, Any] = {}
        if self.network is not None:
            network = {"network": {"bandwidth": self.network.bandwidth, "latency": self.network.latency}}
        return {"format": FORMAT, "device": self.device, "machine": self.machine, **self.parts, **network}


def read_rates(path: PathLike) -> Rates:
    """Reads rates that were measured. Raises DataError that names what is wrong."""
    return parse_rates(read_json(path), path)


def parse_rates(about: Any, path: PathLike) -> Rates:
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(f"no rates of format {FORMAT}", file=path, remedy=_REMEDY)
    if about.get("device") not in DEVICES:
        raise DataError(f"device is {about.get('device')!r}", file=path, remedy=f"one of {', '.join(DEVICES)}")
    parts: Dict[str, Dict[str, Any]] = {}
    for name, keys in _NUMBERS.items():
        if name in about:
            parts[name] = _part(about[name], name, keys, path)
    times = None
    if "seconds" in parts.get("student", {}):
        times = Measured(_rows(parts["student"]["seconds"], 1, "student.seconds", path))
    network = _network(about["network"], path) if "network" in about else None
    return Rates(about["device"], str(about.get("machine", "")), parts, network, times)


def _part(values: Any, name: str, keys: Sequence[str], path: PathLike) -> Dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"{name} is {values!r}", file=path, remedy=_REMEDY)
    for key in keys:
        if not _positive(values.get(key)):
            raise DataError(f"{name}.{key} is {values.get(key)!r}, not a number above 0", file=path, remedy=_REMEDY)
    return values


def _positive(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 < value < math.inf


def _rows(values: Any, least: int, name: str, path: PathLike) -> List[List[float]]:
    """A list of lists of numbers above 0."""
    good = isinstance(values, list) and values and all(isinstance(row, list) and len(row) >= least for row in values)
    if not good or not all(_positive(value) for row in values for value in row):
        raise DataError(f"{name} is not a list of lists of numbers above 0", file=path, remedy=_REMEDY)
    return values


def _network(values: Any, path: PathLike) -> Network:
    if isinstance(values, dict) and "points" in values:
        points = _rows(values["points"], 3, "network.points", path)
        if any(len(point) != 3 for point in points):
            raise DataError("a point of network.points is [workers, bytes, seconds]", file=path, remedy=_REMEDY)
        return fit_network([(point[0], point[1], point[2]) for point in points])[0]
    if not isinstance(values, dict) or not _positive(values.get("bandwidth")):
        raise DataError("network has neither points nor a bandwidth above 0", file=path, remedy=_REMEDY)
    latency = values.get("latency", 0.0)
    if latency != 0 and not _positive(latency):
        raise DataError(f"network.latency is {latency!r}", file=path, remedy="seconds, from 0")
    return Network(float(values["bandwidth"]), float(latency))
