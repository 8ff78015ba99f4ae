"""`hybrid doctor`: what is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, cast

import psutil

from hybrid.device import MODERN, Capability, Fault, judge_gpu
from hybrid.measure import commit
from hybrid.parallel import cores

# (distribution, module, version that it must have or "", what it is for, whether the main job needs it)
PACKAGES: Tuple[Tuple[str, str, str, str, bool], ...] = (
    ("numpy", "numpy", "", "arrays", True),
    ("scipy", "scipy", "", "filters, sparse matrices", True),
    ("torch", "torch", "", "networks", True),
    ("k2", "k2", "", "the reference engine of LF-MMI", False),
    ("websockets", "websockets", "", "hybrid serve", False),
    ("triton", "triton", "", "the engine of LF-MMI for a GPU", False),
    ("kaldi-hmm-gmm", "kaldi_hmm_gmm", "1.1.4", "topology, alignment", True),
    ("kaldifst", "kaldifst", "1.7.17", "graphs", True),
    ("kaldi-decoder", "kaldi_decoder", "0.2.11", "lattices without k2", True),
    ("numba", "numba", "", "the search, compiled", True),
    ("kaldi-native-fbank", "kaldi_native_fbank", "", "features", True),
    ("lhotse", "lhotse", "", "cuts", True),
    ("urllib3", "urllib3", "", "lhotse 1.33.0 forgets to require it", True),
    ("pyroomacoustics", "pyroomacoustics", "", "simulated rooms", True),
    ("soundfile", "soundfile", "", "reading audio", True),
    ("safetensors", "safetensors", "", "models on disk", True),
    ("sentencepiece", "sentencepiece", "", "subword lexicons", True),
    ("matplotlib", "matplotlib", "", "report", True),
    ("tqdm", "tqdm", "", "progress bars", True),
    ("espeakng-loader", "espeakng_loader", "", "the voices of the recipe demo", False),
    ("pocketsphinx", "pocketsphinx", "", "the English trigram and dictionary of the recipe speechocean762", False),
    ("onnx", "onnx", "", "hybrid export --onnx", False),
    ("onnxruntime", "onnxruntime", "", "exported networks without torch", False),
    ("kaldifeat", "kaldifeat", "", "the fastest features on a GPU", False),
)

# PyPI's wheels of k2 are all tagged as if they fitted any Python 3; the hash is the only way to name one of them.
K2_WHEEL = ("1.23.4", (3, 11), "1.13.1", "5b5f709b12b9cd092b583984d0b7d940c9f898101259c998d68d1f4adefa48d4")
K2_PAGE = "https://k2-fsa.github.io/k2/installation/from_wheels.html"

_PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(json.dumps(["try", name]), flush=True)
    try:
        importlib.import_module(name)
        error = ""
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}".splitlines()[0]
    print(json.dumps(["done", name, error]), flush=True)
if "torch" in sys.argv:
    import torch, warnings
    warnings.simplefilter("ignore")
    gpus = [
        [torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)]
        for index in range(torch.cuda.device_count())
    ]
    # torch.cuda.get_arch_list() is empty where torch 1.13 sees no GPU.
    architectures = getattr(torch._C, "_cuda_getArchFlags", str)() or ""
    print(json.dumps(["torch", torch.__version__, torch.version.cuda, gpus, architectures.split()]), flush=True)
"""


@dataclass(frozen=True)
class TorchBuild:
    """What torch says of itself. cuda: the version that it is built for, None: the CPU; gpus: that it sees, [name,
    (major, minor)], of those that nvidia-smi names perhaps without a compute capability."""

    version: str
    cuda: Optional[str]
    gpus: Sequence[Tuple[str, Optional[Capability]]] = ()
    architectures: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """One line of the table. `state`: "ok", "missing", "broken" (both stop the main job) or "optional" (does not)."""

    name: str
    state: str
    found: str
    mend: str = ""


def diagnose(as_json: bool = False, folder: Optional[Path] = None) -> int:
    """Prints the table (or JSON) and returns the exit code: 0 when the main job can run here, else 1."""
    checks = examine(folder or Path.cwd())
    ready = all(check.state in ("ok", "optional") for check in checks)
    if as_json:
        print(json.dumps({"ready": ready, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        print(table(checks))
        print("The main job can run here." if ready else "The main job cannot run here yet: see the lines marked.")
    return 0 if ready else 1


def table(checks: Sequence[Check]) -> str:
    signs = {"ok": " ", "optional": "-"}
    width = max(len(check.name) for check in checks)
    rows = []
    for check in checks:
        rows.append(f"{signs.get(check.state, '!')} {check.name:{width}}  {check.found}")
        if check.mend:
            rows.append(f"  {'':{width}}    -> {check.mend}")
    return "\n".join(rows)


def examine(folder: Path) -> List[Check]:
    """Makes all checks; `folder` is where the runs are to be written."""
    versions = {name: _version(name) for name, *_ in PACKAGES}
    installed = [module for name, module, *_ in PACKAGES if versions[name] is not None]
    errors, build = probe(installed)
    checks = [_python(), *_project()]
    for name, module, pin, use, needed in PACKAGES:
        checks.append(judge(name, versions[name], errors.get(module, ""), pin, use, needed, versions.get("torch")))
    checks.append(check_gpus(build, [] if build is None or build.gpus else ask_nvidia_smi()))
    return checks + _machine(folder)


def judge(
    name: str, version: Optional[str], error: str, pin: str, use: str, needed: bool, torch: Optional[str] = None
) -> Check:
    """Returns the line of one package: its version, what came of importing it, the version that it must have."""
    state = "missing" if needed else "optional"
    if version is None:
        return Check(name, state, f"not installed ({use})", _install(name, pin, torch))
    if error:
        return Check(name, "broken" if needed else "optional", f"{version}: {error}", _install(name, pin, torch, True))
    if pin and version != pin:
        return Check(name, "broken", f"{version}, but only {pin} works here", _install(name, pin, torch))
    return Check(name, "ok", f"{version} ({use})")


def probe(modules: Sequence[str]) -> Tuple[Dict[str, str], Optional[TorchBuild]]:
    """Imports modules in another process, where one that crashes does no harm.

    Returns {module: error, or "" where it imports} and what torch says, None where it does not answer.
    """
    errors: Dict[str, str] = {}
    build: Optional[TorchBuild] = None
    pending = list(modules)
    while pending:
        try:
            result = subprocess.run(
                [sys.executable, "-c", _PROBE, *pending], capture_output=True, text=True, timeout=300, check=False
            )
            output, code = result.stdout, result.returncode
        except subprocess.TimeoutExpired as expired:
            output = expired.stdout.decode() if isinstance(expired.stdout, bytes) else expired.stdout or ""
            code = "no answer within 300 s"  # type: ignore[assignment]
        current = ""
        for line in output.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # something that a library prints as it is imported
            if row[0] == "try":
                current = row[1]
            elif row[0] == "done":
                errors[row[1]], current = row[2], ""
            elif row[0] == "torch":
                version, cuda, gpus, architectures = row[1:]
                build = TorchBuild(version, cuda, [(name, tuple(numbers)) for name, numbers in gpus], architectures)
        if current:
            errors[current] = f"its import ends the process ({code})"
        elif pending[0] not in errors:
            errors[pending[0]] = f"its import could not be tried ({code})"
        pending = [module for module in pending if module not in errors]
    return errors, build


def _install(name: str, pin: str, torch: Optional[str], reinstall: bool = False) -> str:
    option = " --force-reinstall --no-deps" if reinstall else ""
    if name == "k2":
        return _install_k2(torch)
    if name == "kaldifeat":
        return "pip install kaldifeat  (it needs the CUDA toolkit; without it features are as exact, only slower)"
    if name == "torch":
        return f"pip install{option} torch==1.13.1  (with k2), or torch  (without)"
    if name == "numpy" and torch is not None and torch.startswith("1."):
        return f"pip install{option} 'numpy<2'"
    return f"pip install{option} {name}{'==' + pin if pin else ''}"


def _install_k2(torch: Optional[str]) -> str:
    version, python, built_for, digest = K2_WHEEL
    if sys.version_info[:2] == python and torch == built_for and (sys.platform, platform.machine()) == (
        "linux",
        "x86_64",
    ):
        return (
            f"echo 'k2=={version} --hash=sha256:{digest}' > k2.txt && pip install uv && "
            "uv pip install --reinstall --no-deps --require-hashes -r k2.txt"
        )
    return (
        f"make setup  (with Python 3.11: torch {built_for} and its k2), or the wheel for torch {torch or '2.x'} "
        f"that {K2_PAGE} names"
    )


def _version(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Check:
    version = f"{platform.python_version()}, {sys.platform} {platform.machine()}"
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return Check("python", "ok", version)
    return Check("python", "broken", version, "install Python 3.11, then: make setup")


def _project() -> List[Check]:
    version = _version("hybrid-asr")
    if version is None:
        return [Check("hybrid-asr", "missing", "not installed", "pip install --no-deps -e .  (in its folder)")]
    return [Check("hybrid-asr", "ok", f"{version} {(commit() or '')[:12]}".rstrip())]


def check_gpus(build: Optional[TorchBuild], named: Sequence[Tuple[str, Optional[Capability]]]) -> Check:
    """Return the line of the GPUs: whether torch has kernels for them. named: those that nvidia-smi names where torch
    sees none."""
    if build is None:
        return Check("CUDA", "optional", "unknown: torch does not answer")
    built = f"torch {build.version} is built for {f'CUDA {build.cuda}' if build.cuda else 'the CPU'}"
    gpus = build.gpus or named
    names = ", ".join(name for name, _ in gpus)
    if not gpus:
        return Check("CUDA", "optional", f"no GPU ({built}); everything runs on the CPU")
    if build.cuda is None and not build.gpus:
        return Check("CUDA", "optional", f"{names}, but {built}, where everything runs", f"{MODERN} TORCH=cuda")
    faults = [
        judge_gpu(name, capability, build.version, build.architectures) if build.cuda and capability else None
        for name, capability in gpus
    ]
    if None not in faults:
        fault = cast(Fault, faults[0])
        return Check("CUDA", "optional", f"{fault.what}; everything runs on the CPU", fault.remedy)
    if not build.gpus:
        mend = "look at nvidia-smi (is the driver older than that CUDA?) and CUDA_VISIBLE_DEVICES"
        return Check("CUDA", "optional", f"{names}, but torch sees none ({built}); everything runs on the CPU", mend)
    left_out = "; ".join(fault.what for fault in faults if fault is not None)
    return Check("CUDA", "ok", f"{build.cuda or 'ROCm'}, {names}" + (f"; left alone: {left_out}" if left_out else ""))


def ask_nvidia_smi() -> List[Tuple[str, Optional[Capability]]]:
    """Return the GPUs that nvidia-smi names, with their compute capability where the driver is new enough to say it."""
    for fields in ("name,compute_cap", "name"):
        try:
            result = subprocess.run(
                ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return []
        if result.returncode == 0:
            return [_parse_gpu(line) for line in result.stdout.splitlines() if line.strip()]
    return []


def _parse_gpu(line: str) -> Tuple[str, Optional[Capability]]:
    match = re.fullmatch(r"(.*), *([0-9]+)\.([0-9]+)", line.strip())
    return (match[1], (int(match[2]), int(match[3]))) if match else (line.strip(), None)


def _machine(folder: Path) -> List[Check]:
    memory = psutil.virtual_memory()
    free = shutil.disk_usage(folder).free
    few = memory.total < 3.5e9
    return [
        Check("cores", "ok", str(cores())),
        Check(
            "memory",
            "optional" if few else "ok",
            f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
            "run with --set run.jobs=1" if few else "",
        ),
        Check(
            "disk",
            "optional" if free < 3e9 else "ok",
            f"{free / 1e9:.1f} GB free here",
            "free some space, or give --exp on another disk (a run takes 1 to 3 GB)" if free < 3e9 else "",
        ),
    ]
