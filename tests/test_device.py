"""Which device work is done on, and which GPUs torch has kernels for."""

from __future__ import annotations

import warnings
from typing import Any, List, Optional, Tuple

import pytest
import torch
from device_tools import ADA, HOPPER, K2_STACK, TURING, pretend_gpus

from hybrid.config import Config
from hybrid.device import MODERN, check_name, choose, for_workers, has_kernels, judge_gpu, usable_gpus
from hybrid.errors import ConfigError
from hybrid.marks import Stage
from hybrid.run import Run
from hybrid.stages import run_stages

MODERN_STACK = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


@pytest.mark.parametrize(
    ("wanted", "count", "processes", "chosen"),
    [
        ("auto", 0, [0, 1], ["cpu", "cpu"]), ("cpu", 2, [0, 1], ["cpu", "cpu"]),
        ("auto", 2, [4, 5, 6], ["cuda:0", "cuda:1", "cuda:0"]), ("cuda", 1, [0, 7], ["cuda:0", "cuda:0"]),
        ("cuda:1", 2, [0, 1], ["cuda:1", "cuda:1"]), ("cuda:0", 1, [3], ["cuda:0"]),
    ],
)  # fmt: skip
def test_processes_share_out_the_gpus_that_are_there(
    monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, processes: List[int], chosen: List[str]
) -> None:
    pretend_gpus(monkeypatch, *[TURING] * count)
    assert [choose(wanted, process) for process in processes] == chosen
    assert for_workers(wanted) == ("cpu" if chosen[0] == "cpu" else wanted)


@pytest.mark.parametrize(
    ("wanted", "count", "said"),
    [
        ("cuda", 0, "device is cuda, but torch sees none. Remedy: use auto or cpu"),
        ("cuda:0", 0, "device is cuda:0, but torch sees none"),
        ("cuda:1", 1, "device is cuda:1, but torch sees cuda:0 alone"),
        ("cuda:7", 4, "device is cuda:7, but torch sees cuda:0 to cuda:3"),
        ("gpu", 1, "device is 'gpu'. Remedy: use auto, cpu, cuda"), ("cuda:", 1, "device is 'cuda:'"),
        ("cuda:-1", 2, "device is 'cuda:-1'"), ("cuda:x", 2, "device is 'cuda:x'"), ("", 1, "device is ''"),
        ("CPU", 1, "device is 'CPU'"), ("mps", 1, "device is 'mps'"), ("cuda:0\n", 1, "device is"),
    ],
)  # fmt: skip
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, said: str) -> None:
    pretend_gpus(monkeypatch, *[TURING] * count)
    for call in (choose, for_workers):
        with pytest.raises(ConfigError, match=f"^{said}") as caught:
            call(wanted)
        assert caught.value.remedy


def test_a_setting_that_is_no_device_is_named() -> None:
    for value in ("gpu", 0, None, ["cpu"]):
        with pytest.raises(ConfigError, match=r"^gmm\.device is ") as caught:
            check_name(value, "gmm.device")  # type: ignore[arg-type]
        assert caught.value.remedy


# ------------------------------------------------------------------ kernels


@pytest.mark.parametrize(
    ("architectures", "runs", "fails"),
    [
        (K2_STACK, [(3, 7), (5, 2), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9)],
         [(3, 5), (9, 0), (10, 0), (12, 0)]),
        (MODERN_STACK, [(7, 5), (8, 0), (8, 7), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1), (13, 0)],
         [(3, 7), (6, 1), (7, 0), (7, 2), (11, 0)]),
        (["sm_86"], [(8, 6), (8, 9)], [(8, 0), (7, 5), (9, 0)]),
        (["compute_80"], [(8, 0), (8, 6), (9, 0), (12, 0)], [(7, 5)]),
        (["sm_90a"], [(9, 0)], [(8, 9), (9, 1), (10, 0)]), (["compute_90a"], [(9, 0)], [(9, 1), (10, 0)]),
        (["sm_100f"], [(10, 0), (10, 3)], [(12, 0), (9, 0)]), (["compute_100f"], [(10, 0), (10, 3)], [(12, 0)]),
        ([], [(9, 0)], []), (["gfx90a"], [(9, 0)], []),  # nothing is known
        (["gfx90a", "sm_80"], [(8, 0)], [(9, 0)]),
    ],
)  # fmt: skip
def test_what_a_build_of_torch_runs_on(
    architectures: List[str], runs: List[Tuple[int, int]], fails: List[Tuple[int, int]]
) -> None:
    assert [capability for capability in runs if not has_kernels(capability, architectures)] == []
    assert [capability for capability in fails if has_kernels(capability, architectures)] == []


@pytest.mark.parametrize(
    ("capability", "version", "architectures", "remedy"),
    [
        ((9, 0), "1.13.1+cu117", K2_STACK, MODERN), ((12, 0), "1.13.1", K2_STACK, MODERN),
        ((12, 0), "2.0.1", [*K2_STACK, "sm_90"], "pip install --upgrade torch"),
        *(((major, minor), "2.13.0", MODERN_STACK, "make setup STACK=k2") for major, minor in ((7, 0), (3, 7))),
        ((3, 5), "2.13.0", MODERN_STACK, ""), ((3, 5), "1.13.1", K2_STACK, ""),
        ((8, 9), "1.13.1", K2_STACK, None), ((9, 0), "2.13.0", MODERN_STACK, None),
    ],
)  # fmt: skip
def test_the_way_out(
    capability: Tuple[int, int], version: str, architectures: List[str], remedy: Optional[str]
) -> None:
    fault = judge_gpu("NVIDIA X", capability, version, architectures)
    if remedy is None:
        assert fault is None
    else:
        assert fault is not None and fault.remedy.startswith(remedy) and bool(fault.remedy) == bool(remedy)
        words = f"compute capability {capability[0]}.{capability[1]};"
        assert f"torch {version} has no kernels for NVIDIA X ({words}" in fault.what


def test_a_gpu_without_kernels_is_left_alone_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, HOPPER)
    assert usable_gpus() == []
    with pytest.warns(UserWarning, match="no kernels for GPU 0 .*9.0.*the CPU is used.*STACK=modern$") as said:
        assert [choose("auto"), choose("auto"), for_workers("auto"), choose("auto", 3)] == ["cpu"] * 4
    assert len(said) == 1
    for named in ("cuda", "cuda:0"):
        with pytest.raises(ConfigError, match=f"^device is {named}, but torch 1.13.1.cu117 has no kernels") as caught:
            choose(named)
        assert caught.value.remedy == f"{MODERN}; or set device to cpu"
    with pytest.raises(ConfigError, match="torch sees cuda:0 alone"):
        choose("cuda:1")


def test_work_goes_to_the_gpus_that_have_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, HOPPER, TURING, HOPPER, ADA)
    assert usable_gpus() == [1, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for wanted in ("auto", "cuda"):
            assert [choose(wanted, process) for process in range(3)] == ["cuda:1", "cuda:3", "cuda:1"]
        assert choose("cuda:3", 1) == "cuda:3" and for_workers("auto") == "auto"
    with pytest.raises(ConfigError, match="no kernels for GPU 2"):
        choose("cuda:2")


def test_a_gpu_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(number: int) -> Any:
        raise RuntimeError("CUDA error: device is busy\nand much more")

    pretend_gpus(monkeypatch, TURING)
    monkeypatch.setattr(torch.cuda, "get_device_capability", broken)
    with pytest.warns(UserWarning, match="^torch cannot use cuda:0: CUDA error: device is busy: the CPU is used"):
        assert choose("auto") == "cpu"
    with pytest.raises(ConfigError, match="device is busy") as caught:
        choose("cuda")
    assert "much more" not in str(caught.value)


def test_another_make_of_gpu_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, HOPPER)
    monkeypatch.setattr(torch.version, "cuda", None)  # ROCm
    assert choose("auto") == "cuda:0"


def test_a_run_says_before_its_first_stage_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    done: List[str] = []
    stages = [Stage("one", lambda run: done.append("one"))]

    def run(device: str) -> None:
        run_stages(stages, Run(tmp_path / "exp", Config({"run": {"jobs": 1, "threads": 1, "device": device}})))

    pretend_gpus(monkeypatch)
    for device, said in (("cuda", "torch sees none"), ("gpu", "device is 'gpu'")):
        with pytest.raises(ConfigError, match=said):
            run(device)
        assert not done
    run("auto")
    assert done == ["one"]
