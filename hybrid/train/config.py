"""Settings of a training, the same for every criterion."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, List, Mapping, Optional

import torch
from torch import nn

from hybrid.device import check_name, choose
from hybrid.errors import ConfigError
from hybrid.nnet.precision import PRECISIONS
from hybrid.train.bmuf import BmufConfig
from hybrid.train.dropout import DropoutSchedule
from hybrid.train.gtc import Gtc
from hybrid.train.schedule import ScheduleConfig
from hybrid.train.torchrun import local_rank

STRATEGIES = ("sum", "ddp", "gtc", "gtc_updates", "bmuf")
# What makes a run faster or tells more, but leaves its numbers as they are.
_NEUTRAL = (
    "threads", "parallel_directions", "device", "checkpoint_minutes", "checkpoint_updates", "log_every", "keep_every",
    "timeout_minutes",
)  # fmt: skip


@dataclass(frozen=True)
class TrainerConfig:
    """Raises ConfigError for a value out of its range.

    An update is made of `accumulate` batches. `workers` processes share these: each takes every workers-th batch, the
    gradients are summed in the order of the workers. With workers == accumulate the parameters are bit for bit those
    of one process with the same `accumulate`: the number of cores makes a run faster, not another.
    """

    epochs: int = 15
    optimizer: str = "adam"  # adam, adamw, sgd
    lr: float = 1e-3
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    momentum: float = 0.9  # sgd
    weight_decay: float = 0.0
    dropout_schedule: str = ""  # Kaldi's notation (dropout.py); "": the model's own dropout throughout
    clip: float = 5.0  # norm of the gradient of the mean loss per frame; 0: no clipping
    accumulate: int = 1
    workers: int = 1
    strategy: str = "sum"  # how workers put gradients or models together: strategies.py
    gtc_threshold: float = 0.0  # of the gradient of the mean loss a frame; gtc_updates: of a step
    gtc_density: float = 0.0  # or the share of the gradients to send
    bmuf: BmufConfig = field(default_factory=BmufConfig)  # bmuf_period, bmuf_momentum, ...
    average: int = 0  # the mean of the parameters of the best n epochs, where it is better than the best; 0: off
    keep_every: int = 0  # epoch-NNN.safetensors of every n-th epoch stay, besides the best; 0: the best alone
    max_skipped: int = 20  # batches and updates left out for a loss or gradient that is not finite, then an error
    precision: str = "float32"  # or tf32, bf16: of products on a GPU (nnet/precision.py)
    threads: int = 1  # of torch, per worker
    parallel_directions: bool = True  # a bidirectional LSTM's directions in two threads per worker; the same numbers
    device: str = "auto"  # hybrid/device.py; "auto" of several workers is the CPU
    checkpoint_minutes: float = 2.0  # besides the end of each epoch; 0: off
    checkpoint_updates: int = 0  # likewise
    timeout_minutes: float = 30.0  # after which a worker that does not answer is taken for dead
    log_every: int = 50  # updates; 0: only whole epochs

    def __post_init__(self) -> None:
        at_least = {"epochs": 1, "accumulate": 1, "workers": 1, "threads": 1, "average": 0, "max_skipped": 0}
        at_least.update(checkpoint_updates=0, log_every=0, keep_every=0)
        for name, least in at_least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} is {value!r}", remedy=f"a whole number, at least {least}")
        for name in ("lr", "weight_decay", "clip", "momentum", "checkpoint_minutes", "timeout_minutes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise ConfigError(f"{name} is {value!r}", remedy="a number, 0 or more")
        if not self.timeout_minutes > 0:
            raise ConfigError(f"timeout_minutes is {self.timeout_minutes}", remedy="a number above 0")
        if not self.lr:
            raise ConfigError("lr is 0", remedy="a number above 0, e.g. 0.001")
        if self.optimizer not in ("adam", "adamw", "sgd"):
            raise ConfigError(f"optimizer is {self.optimizer!r}", remedy="one of adam, adamw, sgd")
        check_name(self.device)
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}", remedy=f"one of {', '.join(PRECISIONS)}")
        if not isinstance(self.dropout_schedule, str):
            raise ConfigError(f"dropout_schedule is {self.dropout_schedule!r}", remedy='a text: "" or "0,0.3@0.5,0"')
        self.plan_dropout()
        if self.strategy not in STRATEGIES:
            raise ConfigError(f"strategy is {self.strategy!r}", remedy=f"one of {', '.join(STRATEGIES)}")
        if self.strategy in ("gtc", "gtc_updates"):
            Gtc(self.gtc_threshold, self.gtc_density)
        if self.workers > self.accumulate and self.strategy != "bmuf":
            raise ConfigError(
                f"{self.workers} workers share {self.accumulate} batches an update",
                remedy="set accumulate to at least the number of workers, and max_frames of a batch smaller",
            )
        if self.workers > 1 and self.device.startswith("cuda"):
            raise ConfigError(
                f"device is {self.device}, and {self.workers} workers are processes on the CPU",
                remedy="set workers to 1 or device to cpu; several GPUs are for processes of torchrun",
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainerConfig:
        """Make the settings of flat `values`: the schedule's beside the others, its kind as `schedule`.

        Those of bmuf are bmuf_NAME.
        Raises ConfigError for an unknown name.
        """
        plan = {f.name: f.name for f in fields(ScheduleConfig) if f.name != "kind"}
        plan["schedule"] = "kind"
        blocks = {f"bmuf_{f.name}": f.name for f in fields(BmufConfig)}
        plain = {f.name: f.name for f in fields(cls) if f.name not in ("schedule", "bmuf")}
        for name in values:
            if name not in {**plain, **plan, **blocks}:
                names = ", ".join([*plain, *plan, *blocks])
                raise ConfigError(f"unknown setting of the training: {name}", remedy=f"one of {names}")

        def settings(names: Mapping[str, str]) -> Dict[str, Any]:
            return {field_name: values[name] for name, field_name in names.items() if name in values}

        return cls(schedule=ScheduleConfig(**settings(plan)), bmuf=BmufConfig(**settings(blocks)), **settings(plain))

    def numbers(self, workers: int) -> Dict[str, Any]:
        """Return the settings that the numbers of a run with so many workers depend on."""
        settings = {name: value for name, value in asdict(self).items() if name not in _NEUTRAL}
        settings["workers"] = workers
        if self.strategy == "sum" and workers == self.accumulate:
            settings["workers"] = 1  # the same sums in the same order
        if self.precision == "float32":
            del settings["precision"]  # which older checkpoints do not know
        if self.strategy != "bmuf":
            del settings["bmuf"]
        if self.strategy not in ("gtc", "gtc_updates"):
            del settings["gtc_threshold"], settings["gtc_density"]
        return settings

    def plan_dropout(self) -> Optional[DropoutSchedule]:
        """Return the schedule of dropout; None: the model's own. Raises ConfigError for one that cannot be read."""
        return DropoutSchedule.parse(self.dropout_schedule) if self.dropout_schedule else None

    def build_optimizer(self, parameters: List[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(parameters, lr=self.lr, weight_decay=self.weight_decay)

    def find_device(self) -> torch.device:
        """Return the device to train on, of the processes of torchrun each its own. Raises ConfigError as choose does,
        and for one GPU that several processes are to train on."""
        if self.workers > 1:
            return torch.device("cpu")
        if ":" in self.device and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            raise ConfigError(f"device is {self.device} for several processes", remedy="set device to cuda or auto")
        return torch.device(choose(self.device, local_rank()))
