"""Which environment the commands of the Makefile are of, as `make -n` tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

PROJECT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
COMMANDS = ("setup", "demo", "test", "lint")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile, and both environments as if they were complete."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(PROJECT / "requirements", tmp_path / "requirements")
    for ready in (".venv/.k2", ".venv-modern/.modern"):
        (tmp_path / ready).parent.mkdir()
        (tmp_path / ready).touch()
    return tmp_path


def make(folder: Path, *words: str, code: int = 0, **environment: str) -> str:
    inherited: Dict[str, str] = {
        name: value for name, value in os.environ.items() if name not in ("STACK", "TORCH", "ARGS", "MAKEFLAGS")
    }
    result = subprocess.run(
        ["make", "--no-print-directory", *words], cwd=folder, env={**inherited, **environment}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result.stdout + result.stderr


def environments(folder: Path, *words: str, **environment: str) -> List[str]:
    """The environments that the commands run in, each once."""
    said = make(folder, "-n", *words, **environment)
    return sorted({word.split("/")[0] for word in said.split() if word.startswith(".venv") and "/bin/" in word})


def test_without_a_choice_all_is_of_the_k2_stack(checkout: Path) -> None:
    assert environments(checkout, *COMMANDS) == [".venv"]
    assert "-m " not in make(checkout, "-n", "test").replace("-m pytest", "")
    assert environments(checkout, "modern") == [".venv-modern"]


@pytest.mark.parametrize("exported", [False, True])
def test_a_stack_for_one_command(checkout: Path, exported: bool) -> None:
    words, environment = ([], {"STACK": "modern"}) if exported else (["STACK=modern"], {})
    for command in COMMANDS[1:]:
        assert environments(checkout, command, *words, **environment) == [".venv-modern"], command
    said = make(checkout, "-n", "test", "ARGS=tests/test_wer.py", *words, **environment)
    assert '-m "not k2" tests/test_wer.py' in said
    assert environments(checkout, "test") == [".venv"]  # nothing was remembered


def test_setup_remembers_its_stack(checkout: Path) -> None:
    make(checkout, "setup", "STACK=modern")
    for command in COMMANDS[1:]:
        assert environments(checkout, command) == [".venv-modern"], command
    assert "Now: modern" in make(checkout)
    make(checkout, "setup")  # again, after an update
    assert environments(checkout, "test") == [".venv-modern"]
    assert environments(checkout, "test", "STACK=k2") == [".venv"]
    make(checkout, "setup", "STACK=k2")
    assert environments(checkout, *COMMANDS) == [".venv"] and "Now: k2" in make(checkout)


def test_what_a_change_is_checked_by_does_not_follow_the_choice(checkout: Path) -> None:
    make(checkout, "setup", "STACK=modern")
    lines = [line.split() for line in (PROJECT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    found = [(words[1], environments(checkout, *words[1:])) for words in lines]
    assert found == [("test", [".venv"]), ("lint", [".venv"]), ("modern", [".venv-modern"])]


def test_another_build_of_torch_is_put_into_an_environment_that_is_there(checkout: Path) -> None:
    filled = "requirements/setup.sh modern .venv-modern"
    assert filled in make(checkout, "-n", "setup", "STACK=modern", "TORCH=cuda")
    assert filled not in make(checkout, "-n", "setup", "STACK=modern")
    assert "setup.sh" not in make(checkout, "-n", "setup", "TORCH=cuda")


def test_an_unknown_stack_is_refused(checkout: Path) -> None:
    said = make(checkout, "test", "STACK=k3", code=2)
    assert 'STACK is "k3": use k2' in said
    (checkout / ".stack").write_text("old\n")
    assert 'STACK is "old"' in make(checkout, "test", code=2)
    make(checkout, "setup", "STACK=k2")
    assert environments(checkout, "test") == [".venv"]


def script(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("given", "gpu", "offered", "builds", "code"),
    [
        ("", False, True, ["cpu"], 0), ("", False, False, ["cpu", "cuda"], 0), ("", True, True, ["cuda"], 0),
        ("cuda", False, True, ["cuda"], 0), ("cpu", True, True, ["cpu"], 0), ("cpu", True, False, ["cpu"], 2),
    ],
)  # fmt: skip
def test_which_build_of_torch_is_installed(
    checkout: Path, given: str, gpu: bool, offered: bool, builds: List[str], code: int
) -> None:
    """builds: the locks of torch that are tried, in an environment whose installers only say what they are asked.
    offered: whether pip finds the CPU build."""
    log, commands = checkout / "log", checkout / "commands"
    heard = f'echo "$@" >> {log}'
    refusing = "" if offered else '[[ "$*" != *modern-cpu.lock* ]]'
    script(checkout / ".venv-modern" / "bin" / "python", heard, refusing)
    script(checkout / ".venv-modern" / "bin" / "uv", heard)
    script(commands / "python3.11", "exit 0")
    script(commands / "nvidia-smi", "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'" if gpu else "exit 9")
    (checkout / ".venv-modern" / ".modern").unlink()
    words = [f"TORCH={given}"] if given else []
    said = make(checkout, "setup", "STACK=modern", *words, code=code, PATH=f"{commands}:{os.environ['PATH']}")
    tried = [name for line in log.read_text().splitlines() for name in ("cpu", "cuda") if f"modern-{name}.lock" in line]
    assert tried == builds
    assert (checkout / ".venv-modern" / ".modern").exists() == (checkout / ".stack").exists() == (code == 0)
    assert ("there is a GPU" in said) == (gpu and not given) and ("pip finds no CPU build" in said) == (not offered)


@pytest.mark.parametrize("torch", ["gpu", "CUDA"])
def test_an_unknown_build_of_torch_is_refused(checkout: Path, torch: str) -> None:
    said = make(checkout, "setup", "STACK=modern", f"TORCH={torch}", code=2)
    assert f"TORCH={torch}: use cpu or cuda" in said and not (checkout / ".stack").exists()
