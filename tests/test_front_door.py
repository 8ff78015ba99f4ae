"""`import hybrid`: light, its names found when they are used, and modules that are functions too."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import hybrid
from hybrid.align.call import align
from hybrid.errors import ConfigError
from hybrid.front_door import NAMES, resolve

HEAVY = ("numpy", "torch", "lhotse", "scipy", "kaldifst", "kaldi_hmm_gmm", "k2", "soundfile", "matplotlib")


def python(text: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(Path(hybrid.__file__).parent.parent)}
    found = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    return found.stdout


def is_there(module: str) -> bool:
    path = Path(hybrid.__file__).parent.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_importing_is_light() -> None:
    text = f"import sys, hybrid; dir(hybrid); print([name for name in {HEAVY} if name in sys.modules])"
    assert python(text).strip() == "[]"


def test_every_name_is_listed_and_found() -> None:
    assert set(NAMES) <= set(dir(hybrid))
    found = [name for name, place in NAMES.items() if is_there(place.partition(":")[0])]
    assert len(found) >= 19 and {"load", "align", "run"} <= set(found)
    for name in found:
        value = getattr(hybrid, name)
        assert callable(value), name
        assert getattr(value, "__name__", name).rpartition(".")[2] == name
    with pytest.raises(AttributeError, match="'hybrid' has no attribute 'lode'"):
        _ = hybrid.lode  # type: ignore[attr-defined]
    assert not hasattr(hybrid, "lode")


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(hybrid.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" == ast.unparse(node.test)]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # else it is not offered again
            seen[alias.name] = f"{node.module}:{alias.name}"
    assert seen.pop("align") == "hybrid.align.call:align"
    assert seen.pop("run") == "hybrid.pipeline.front:run"
    assert seen == {name: place for name, place in NAMES.items() if name not in ("align", "run")}


ORDERS = [
    "import hybrid; call = hybrid.align; from hybrid.align.run import run_align",
    "from hybrid.align.run import run_align; import hybrid; call = hybrid.align",
    "import hybrid.align.run; from hybrid import align as call; from hybrid.align.run import run_align",
    "import hybrid.align as call, hybrid.align.options; from hybrid.align.run import run_align",
]


@pytest.mark.parametrize("order", ORDERS)
def test_align_is_a_function_and_a_package(order: str) -> None:
    text = f"""
{order}
import sys, types, hybrid
assert callable(run_align) and callable(call) and isinstance(call, types.ModuleType)
assert call is hybrid.align is sys.modules["hybrid.align"] and hybrid.align.run.run_align is run_align
try:
    call("no/such/corpus", "no/such/lexicon", "out", modle="x")
except Exception as error:
    print(type(error).__name__, error)
"""
    assert python(text).strip() == "ConfigError align has no option 'modle'. Remedy: did you mean model"


@pytest.mark.parametrize(
    "order", ["import hybrid; hybrid.run; from hybrid.run import Run", "from hybrid.run import Run; import hybrid"]
)
def test_run_is_a_function_and_a_module(order: str) -> None:
    text = f"""
{order}
import sys, types
front = types.ModuleType("hybrid.pipeline.front")
front.run = lambda recipe, **more: (recipe, more)
sys.modules["hybrid.pipeline.front"] = front
assert isinstance(Run, type) and hybrid.run is sys.modules["hybrid.run"] and hybrid.run.Run is Run
print(hybrid.run("an4", data="DIR"))
"""
    assert python(text).strip() == "('an4', {'data': 'DIR'})"


def test_align_hands_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("hybrid.align.call.run_align", lambda options: asked.append(options) or "done")
    made = hybrid.align("corpus", tmp_path / "lexicon.txt", "out", model="m", formats="ctm, json", g2p=True, jobs=2)
    assert made == "done" and isinstance(hybrid.align, ModuleType)
    (options,) = asked
    assert (options.corpus, options.lexicon, options.out) == (Path("corpus"), tmp_path / "lexicon.txt", Path("out"))
    assert options.model == Path("m") and options.formats == ("ctm", "json") and options.g2p and options.jobs == 2
    assert options.g2p_model is None


@pytest.mark.parametrize("name, words", [("model_", "mean model"), ("xyz", "known: model"), ("bean", "mean beam")])
def test_options_that_align_has_not(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        align("corpus", "lexicon.txt", "out", **{name: 1})


def test_places_are_modules_or_names_in_them() -> None:
    assert resolve("hybrid.errors").ConfigError is resolve("hybrid.errors:ConfigError") is ConfigError
