"""The package's import graph: no circle, and imports run down the layout.

Counted are the imports inside functions too, for they are edges all the same; not those for type checking alone, and
not that Python runs a package's __init__ before its modules.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest
from conftest import PROJECT

# The layout from the top down, a line a layer: a module imports from lower layers, and from its own (without a circle).
LAYERS = (
    "hybrid",  # the front door: names for notebooks, each imported when it is used
    "recipes",  # the demo's synthesiser and AN4's layout are stages of their own, and programs that call the command
    "cli __main__",
    "sweep init plan label transcribe doctor serve",
    "pipeline",
    "report",  # a stage of every recipe, and the plots and tables of sweeps
    "rescore",  # of n-best lists
    "decode align",
    "score",
    "online",  # features and networks on speech that comes in pieces
    "train",
    "nnet",
    "gmm",
    "hmm",
    "corpus",
    "data",
    "lexicon",
    "lm",
    "stages subcommand",
    "marks",
    "run",
    "config typed fst fst_file fingerprint measure parallel script cpu device compiled",
    "io",
    "destination front_door",
    "errors",
)
LAYER = {name: number for number, layer in enumerate(reversed(LAYERS)) for name in layer.split()}

# Known circles and imports upwards; a row whose fault is gone is an error, too.
CIRCLES: List[Set[str]] = []
UPWARDS: Set[Tuple[str, str]] = set()

Graph = Dict[str, Set[str]]


def module_files(project: Path) -> Dict[str, Path]:
    """{module: its file}; lexicon, lm and recipes are links in hybrid."""
    found = {}
    for name in ("hybrid", *("hybrid." + path.name for path in (project / "hybrid").iterdir() if path.is_symlink())):
        root = (project / name.replace(".", "/")).resolve()
        for path in root.rglob("*.py"):
            parts = [name, *path.relative_to(root).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, source: str, modules: Set[str]) -> Set[str]:
    """Those of `modules` that `source` imports."""
    found: Set[str] = set()
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {_known(name.name, modules) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports from a place relative to itself"
            names = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name if name in modules else _known(str(node.module), modules) for name in names}
    return found - {"", module}


def _known(name: str, modules: Set[str]) -> str:
    """The module of `modules` that `import name` needs, or "". A name of the package that does not exist is a fault."""
    if name.split(".")[0] != "hybrid":
        return ""
    assert name in modules, f"{name} does not exist"
    return name


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All in `node`, but for what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _statements(other)
            continue
        yield child
        yield from _statements(child)


def circles_of(graph: Graph) -> List[Set[str]]:
    """The sets of modules of which each is reached from each other (Tarjan's strongly connected components)."""
    number: Dict[str, int] = {}
    lowest: Dict[str, int] = {}
    stack: List[str] = []
    found: List[Set[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            place = stack.index(name)
            component = set(stack[place:])
            del stack[place:]
            if len(component) > 1:
                found.append(component)

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return sorted(found, key=min)


def layer_of(module: str) -> str:
    """hybrid.gmm.align -> gmm."""
    layer = module.split(".")[1] if "." in module else module
    assert layer in LAYER, f"{module}: give {layer} a place in LAYERS"
    return layer


def upwards(graph: Graph) -> Set[Tuple[str, str]]:
    return {(a, b) for a, imported in graph.items() for b in imported if LAYER[layer_of(a)] < LAYER[layer_of(b)]}


@pytest.fixture(scope="module")
def graph() -> Graph:
    files = module_files(PROJECT)
    return {name: imports_of(name, path.read_text(encoding="utf-8"), set(files)) for name, path in files.items()}


def test_the_graph_is_that_of_the_whole_package(graph: Graph) -> None:
    assert len(graph) > 200 and {"hybrid.lexicon", "hybrid.lm", "hybrid.recipes"} <= graph.keys()
    # one of each kind: at the top of a module, in a function, of a link, of a package
    assert "hybrid.train.training" in graph["hybrid.train.trainer"]
    assert "hybrid.label.command" in graph["hybrid.label.options"]
    assert "hybrid.lm.model" in graph["hybrid.lm.ngram"]
    assert "hybrid.report" in graph["hybrid.pipeline.scoring"]
    assert sum(map(len, graph.values())) > 500


def test_there_is_no_circle(graph: Graph) -> None:
    assert circles_of(graph) == sorted(CIRCLES, key=min)


def test_imports_run_down_the_layout(graph: Graph) -> None:
    assert upwards(graph) == UPWARDS


def test_circles_are_found() -> None:
    names = {"hybrid", "hybrid.io", "hybrid.run", "hybrid.cli", "hybrid.errors"}
    sources = {
        "hybrid": "from hybrid import errors\n",
        "hybrid.errors": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hybrid import io\n",
        "hybrid.io": "import json\nfrom hybrid.errors import HybridError\ndef read():\n    import hybrid.run\n",
        "hybrid.run": "try:\n    from hybrid import cli\nexcept ImportError:\n    pass\n",
        "hybrid.cli": "class A:\n    def b(self):\n        from hybrid.io import x\n",
    }
    graph = {name: imports_of(name, source, names) for name, source in sources.items()}
    assert graph == {
        "hybrid": {"hybrid.errors"}, "hybrid.errors": set(), "hybrid.io": {"hybrid.errors", "hybrid.run"},
        "hybrid.run": {"hybrid.cli"}, "hybrid.cli": {"hybrid.io"},
    }  # fmt: skip
    assert circles_of(graph) == [{"hybrid.cli", "hybrid.io", "hybrid.run"}]
    assert upwards(graph) == {("hybrid.io", "hybrid.run"), ("hybrid.run", "hybrid.cli")}
    with pytest.raises(AssertionError, match="give nowhere a place"):
        upwards({"hybrid.io": {"hybrid.nowhere.x"}})
    with pytest.raises(AssertionError, match="hybrid.absent does not exist"):
        imports_of("hybrid.io", "import hybrid.absent", names)
    graph["hybrid.cli"] = set()
    assert circles_of(graph) == []
