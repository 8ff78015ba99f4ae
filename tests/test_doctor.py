from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from device_tools import K2_STACK

from hybrid import doctor
from hybrid.cli import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("name", "version", "error", "torch", "state", "mend"),
    [
        ("scipy", "1.17", "", None, "ok", ""),
        ("scipy", None, "", None, "missing", "pip install scipy"),
        ("kaldifst", "1.7.17", "", None, "ok", ""),
        ("kaldifst", "1.8.2", "", None, "broken", "pip install kaldifst==1.7.17"),
        ("kaldifst", None, "", None, "missing", "pip install kaldifst==1.7.17"),
        ("numpy", "2.1", "ImportError: x", "1.13.1", "broken", "pip install --force-reinstall --no-deps 'numpy<2'"),
        ("kaldifeat", None, "", None, "optional", "pip install kaldifeat"),
        ("espeakng-loader", None, "", None, "optional", "pip install espeakng-loader"),
        ("k2", None, "", "2.13.0", "optional", "make setup"),
        ("k2", "1.23.4", "ModuleNotFoundError: No module named '_k2'", "2.13.0", "optional", "make setup"),
    ],
)
def test_each_fault_has_its_remedy(name, version, error, torch, state, mend) -> None:
    (row,) = [row for row in doctor.PACKAGES if row[0] == name]
    check = doctor.judge(name, version, error, *row[2:], torch)
    assert check.state == state
    assert check.mend.startswith(mend) and bool(check.mend) == bool(mend)
    assert (version or "not installed") in check.found


@pytest.mark.skipif(sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="the wheel is for 3.11 on Linux")
def test_the_wrong_wheel_of_k2_is_mended_by_its_hash() -> None:
    check = doctor.judge("k2", "1.23.4", "ModuleNotFoundError: No module named '_k2'", "", "", True, "1.13.1")
    assert doctor.K2_WHEEL[3] in check.mend and "--require-hashes" in check.mend


def test_imports_are_tried_where_a_crash_does_no_harm(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "good_one.py").write_text("print('hello from a library')")
    (tmp_path / "bad_one.py").write_text("raise ImportError('no library\\nat all')")
    (tmp_path / "worse_one.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "last_one.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    errors, build = doctor.probe(["good_one", "bad_one", "worse_one", "last_one"])
    assert build is None
    assert errors == {
        "good_one": "",
        "bad_one": "ImportError: no library",
        "worse_one": "its import ends the process (-11)",
        "last_one": "",
    }


def fake(monkeypatch, missing: str, torch: str = "1.13.1") -> None:
    """A machine where everything is installed but `missing`."""
    pins = {name: pin or "1.0" for name, _, pin, _, _ in doctor.PACKAGES}
    versions = {**pins, "torch": torch, "hybrid-asr": "0.1.0"}
    versions.pop(missing, None)
    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setattr(doctor, "probe", lambda modules: (dict.fromkeys(modules, ""), doctor.TorchBuild(torch, "11.7")))
    monkeypatch.setattr(doctor, "ask_nvidia_smi", lambda: [])


@pytest.mark.parametrize(
    ("missing", "code"), [("", 0), ("kaldifeat", 0), ("espeakng-loader", 0), ("k2", 0), ("torch", 1), ("hybrid-asr", 1)]
)
def test_exit_code_and_json(monkeypatch, capsys, missing: str, code: int) -> None:
    fake(monkeypatch, missing)
    assert main(["doctor", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["ready"] == (code == 0)
    faults = [check["name"] for check in told["checks"] if check["state"] in ("missing", "broken")]
    assert faults == ([missing] if code else [])
    assert {"python", "k2", "CUDA", "cores", "memory", "disk"} <= {check["name"] for check in told["checks"]}
    assert main(["doctor"]) == code
    text = capsys.readouterr().out
    assert ("\n! " in text) == (code == 1)
    assert ("The main job can run here." in text) == (code == 0)


H200, L4, V100 = ("NVIDIA H200", (9, 0)), ("NVIDIA L4", (8, 9)), ("Tesla V100", (7, 0))
NAMELESS = ("NVIDIA H200", None)  # by a driver that does not say the compute capability
K2_BUILD = doctor.TorchBuild("1.13.1+cu117", "11.7", (), K2_STACK)
CPU_BUILD = doctor.TorchBuild("2.13.0+cpu", None)
CUDA_BUILD = doctor.TorchBuild("2.13.0+cu130", "13.0", (), ("sm_75", "sm_80", "sm_86", "sm_90", "compute_120"))


@pytest.mark.parametrize(
    ("build", "sees", "named", "state", "said", "mend"),
    [
        (None, [], [], "optional", "torch does not answer", ""),
        (K2_BUILD, [], [], "optional", "no GPU (torch 1.13.1+cu117 is built for CUDA 11.7)", ""),
        (CPU_BUILD, [], [], "optional", "no GPU (torch 2.13.0+cpu is built for the CPU)", ""),
        (K2_BUILD, [L4], [], "ok", "11.7, NVIDIA L4", ""),
        (CUDA_BUILD, [L4, H200], [], "ok", "NVIDIA L4, NVIDIA H200", ""),
        (K2_BUILD, [H200], [], "optional", "torch 1.13.1+cu117 has no kernels for NVIDIA H200 (compute capability 9.0",
         "make setup STACK=modern"),
        (CUDA_BUILD, [V100], [], "optional", "has no kernels for Tesla V100", "make setup STACK=k2"),
        (K2_BUILD, [], [H200], "optional", "has no kernels for NVIDIA H200", "make setup STACK=modern"),
        (K2_BUILD, [L4, H200], [], "ok", "left alone: torch 1.13.1+cu117 has no kernels for NVIDIA H200", ""),
        (CPU_BUILD, [], [H200, L4], "optional", "NVIDIA H200, NVIDIA L4, but torch 2.13.0+cpu is built for the CPU",
         "make setup STACK=modern TORCH=cuda"),
        (CPU_BUILD, [], [NAMELESS], "optional", "is built for the CPU", "make setup STACK=modern TORCH=cuda"),
        (CUDA_BUILD, [], [L4], "optional", "NVIDIA L4, but torch sees none", "look at nvidia-smi"),
        (K2_BUILD, [], [NAMELESS], "optional", "NVIDIA H200, but torch sees none", "look at nvidia-smi"),
        (replace(CPU_BUILD, version="2.13.0+rocm6.4"), [("AMD Instinct", (9, 4))], [], "ok", "ROCm, AMD Instinct", ""),
    ],
)  # fmt: skip
def test_gpus_that_torch_cannot_use_are_told_with_the_way_out(build, sees, named, state, said, mend) -> None:
    check = doctor.check_gpus(build and replace(build, gpus=sees), named)
    assert (check.name, check.state) == ("CUDA", state) and said in check.found
    assert check.mend.startswith(mend) and bool(check.mend) == bool(mend)
    assert "\n" not in check.found + check.mend
    if state == "optional" and build is not None:
        assert "everything runs" in check.found and "the CPU" in check.found


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("echo 'NVIDIA H200, 9.0'; echo 'NVIDIA A100, PCIe, 8.0'", [H200, ("NVIDIA A100, PCIe", (8, 0))]),
        ('[ "$1" = --query-gpu=name ] || exit 2; echo "NVIDIA H200"', [NAMELESS]),
        ("echo 'NVIDIA H200, [N/A]'", [("NVIDIA H200, [N/A]", None)]),
        ("echo 'no devices were found'; exit 6", []), (None, []),
    ],
)  # fmt: skip
def test_what_nvidia_smi_says(tmp_path: Path, monkeypatch, script, named) -> None:
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.ask_nvidia_smi() == named


def test_nvidia_smi_is_asked_where_torch_sees_no_gpu(monkeypatch, capsys) -> None:
    fake(monkeypatch, "")
    monkeypatch.setattr(doctor, "probe", lambda modules: (dict.fromkeys(modules, ""), K2_BUILD))
    monkeypatch.setattr(doctor, "ask_nvidia_smi", lambda: [H200])
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "\n- CUDA " in said and "no kernels for NVIDIA H200" in said and "-> make setup STACK=modern\n" in said


def test_torch_tells_how_it_is_built() -> None:
    errors, build = doctor.probe(["torch"])
    assert errors == {"torch": ""} and build is not None
    assert build.version == torch.__version__ and build.cuda == torch.version.cuda
    assert bool(build.architectures) == (torch.version.cuda is not None or torch.version.hip is not None)
    assert len(build.gpus) == torch.cuda.device_count()


def test_this_environment(capsys) -> None:
    main(["doctor", "--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["torch"]["state"] == "ok"
    assert checks["torch"]["found"].startswith(importlib.metadata.version("torch"))


def test_pins_are_those_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", "\n".join(project["dependencies"]), re.M))
    assert {name: pin for name, _, pin, _, _ in doctor.PACKAGES if pin} == pins


def locked(name: str) -> dict:
    """{package: (version, number of hashes)} of a lock file."""
    text = (PROJECT / "requirements" / f"{name}.lock").read_text()
    blocks = re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    # Every line is a comment or part of a package with its hashes: nothing else could be installed.
    assert len(re.findall(r"^[^#\s]", text, re.M)) == len(blocks)
    assert "://" not in text
    return {package: (version, hashes.count("--hash")) for package, version, hashes in blocks}


def test_locks() -> None:
    k2 = locked("k2")
    assert k2["k2"] == (doctor.K2_WHEEL[0], 1)
    assert doctor.K2_WHEEL[3] in (PROJECT / "requirements" / "k2.lock").read_text()
    assert k2["torch"][0] == doctor.K2_WHEEL[2]
    modern, cuda = locked("modern"), locked("modern-cuda")
    assert locked("modern-cpu") == {"torch": (cuda["torch"][0] + "+cpu", 1)}
    assert "k2" not in modern and "torch" not in modern and not set(modern) & set(cuda)
    assert int(modern["numpy"][0].split(".")[0]) >= 2
    for lock in (k2, modern):
        assert {name: lock[name][0] for name in ("kaldi-hmm-gmm", "kaldifst", "kaldi-decoder")} == {
            name: pin for name, _, pin, _, _ in doctor.PACKAGES if pin
        }
    assert set(locked("bootstrap")) == {"uv"}
