"""The house rules: floors, public doors, sizes, nesting, light import, a tidy top level.

Each rule is a function from a file (path, source) or from a set of files to a list of complaints.
It runs over the whole tree, and over small bad examples that show it can fail.
"""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS: dict[str, float] = {"tasks": 0, "keys": 0, "primitives": 0, "errors": 0, "columns": 0.3}
FLOORS |= {"forks": 0.1, "records": 0.1, "types": 0.1}
FLOORS |= {
    "listing": 0.3,
    "rounding": 0.4,
    "rowrules": 0.4,
    "known": 0.5,
    "columnwise": 0.6,
    "rowwise": 0.6,
    "choices": 0.6,
    "prefixes": 0.7,
    "measures": 1,
}
FLOORS |= {"environments": 1, "policies": 1, "learners": 2}
FLOORS |= {"engine": 3, "sweeps": 4, "plots": 5, "cli": 6, "experiments": 7}
FLOORS |= {"api": 4.5, "": 5}  # `import simrl` itself, the public names: only for the command
PUBLIC_ROOMS = {"", "measures", "plots", "cli"}  # what experiments may import besides each other
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_NESTING = 400, 60, 3
HEAVY = ("matplotlib", "xarray", "scipy.stats", "pandas", "rich")
TOP_LEVEL = {"simrl", "experiments", "tests", "pyproject.toml", "README.md", "LICENSE"}
TOP_LEVEL |= {"CITATION.cff", "CHANGELOG.md", "constraints.txt"}
BUILT = {"build", "dist", "results", "__pycache__", "simrl.egg-info"}  # ignored by git
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.TryStar, ast.Match)


def read_tree(*folders: str) -> dict[str, str]:
    """Path relative to the root -> source, for every Python file under the folders."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


def module_name(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of a module of this repository."""
    package, *rest = module.split(".")
    if package == "experiments":
        return "experiments"
    room = rest[0] if rest else ""
    return "cli" if room == "__main__" else room


def imports(path: str, source: str, modules: set[str]) -> Iterator[tuple[str, str]]:
    """(module, name) of every import; `from a import b` is (a.b, "") where a.b is a module."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, node.module] if node.module else above)
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield (inner, "") if inner in modules else (module, alias.name)


def chains(source: str) -> list[str]:
    """Every dotted expression, as text."""
    nodes = ast.walk(ast.parse(source))
    return [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)]


def ours(module: str) -> bool:
    return module.split(".")[0] in ("simrl", "experiments")


def floor_complaints(path: str, source: str, modules: set[str]) -> list[str]:
    if path == "simrl/__init__.py":
        return []
    room = room_of(module_name(path))
    if room not in FLOORS:
        return [f"{path}: the room {room!r} stands on no floor"]
    targets = {module for module, _ in imports(path, source, modules) if ours(module)}
    return [
        f"{path}: {room!r} (floor {FLOORS[room]}) may not import {target}"
        for target in sorted(targets)
        if room_of(target) != room and FLOORS.get(room_of(target), 99) >= FLOORS[room]
    ]


def door_complaints(path: str, source: str, modules: set[str]) -> list[str]:
    complaints = []
    for module, name in imports(path, source, modules):
        hidden = any(re.match("_(?!_)", part) for part in [*module.split("."), name])
        closed = module.split(".")[0] == "simrl" and room_of(module) not in PUBLIC_ROOMS
        if ours(module) and (hidden or closed):
            complaints.append(f"{path}: {module} {name} is not a public name".replace("  ", " "))
    private = re.compile(r"simrl(\.[a-z]\w*)*\._(?!_)\w*")
    reached = [chain for chain in chains(source) if private.fullmatch(chain)]
    return complaints + [f"{path}: {chain} is not a public name" for chain in reached]


def size_complaints(path: str, source: str) -> list[str]:
    complaints = []
    num_lines = len(source.splitlines())
    if num_lines > MAX_FILE_LINES:
        complaints.append(f"{path}: {num_lines} lines, more than {MAX_FILE_LINES}")
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, FUNCTIONS)]
    lengths = [(node.name, node.end_lineno - node.lineno + 1) for node in functions]
    long = [(name, length) for name, length in lengths if length > MAX_FUNCTION_LINES]
    return complaints + [f"{path}: {name} has {length} lines" for name, length in long]


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Deepest block inside a node: if, for, while, with, try, match.

    An `elif` is no deeper than its `if`; a function inside a block neither adds nor starts anew.
    """
    deepest = depth
    for child in ast.iter_child_nodes(node):
        is_only_else = isinstance(node, ast.If) and node.orelse == [child]
        is_elif = is_only_else and child.col_offset == node.col_offset
        deepest = max(deepest, nesting(child, depth + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


def nesting_complaints(path: str, source: str) -> list[str]:
    depth = nesting(ast.parse(source))
    return [f"{path}: blocks nested {depth} deep"] if depth > MAX_NESTING else []


def private_jax_complaints(path: str, source: str) -> list[str]:
    reached = chains(source) + [".".join(pair) for pair in imports(path, source, set())]
    private = sorted(chain for chain in reached if f"{chain}.".startswith("jax._src."))
    return [f"{path}: {chain} is private to jax" for chain in private]


def cycle_complaints(tree: dict[str, str]) -> list[str]:
    modules = {module_name(path) for path in tree}
    graph = {
        module_name(path): {m for m, _ in imports(path, source, modules) if m in modules}
        for path, source in tree.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return ["import cycle: " + " <- ".join(error.args[1])]
    return []


def top_level_complaints(names: set[str]) -> list[str]:
    strangers = sorted(n for n in names - TOP_LEVEL - BUILT if not n.startswith("."))
    return [f"{name}: not one of the top-level entries" for name in strangers]


def top_level_names() -> set[str]:
    """What git tracks; where there is no git, what lies there."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files"]
        listed = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    tracked = {line.split("/")[0].strip('"') for line in listed.splitlines()}
    return tracked or {path.name for path in ROOT.iterdir()}


def loaded_by(statement: str, candidates: tuple[str, ...]) -> list[str]:
    """Which of the candidate modules a fresh interpreter holds after the statement."""
    program = f"import sys; {statement}; print(*[m for m in {candidates!r} if m in sys.modules])"
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, text=True, cwd=ROOT).split()


TREE = read_tree("simrl", "experiments")
MODULES = {module_name(path) for path in TREE}


@pytest.mark.parametrize("path", TREE)
def test_imports_point_down(path):
    assert floor_complaints(path, TREE[path], MODULES) == []


def test_experiments_use_public_names():
    experiments = {path: source for path, source in TREE.items() if path.startswith("exp")}
    assert [c for item in experiments.items() for c in door_complaints(*item, MODULES)] == []


@pytest.mark.parametrize("path", TREE)
def test_files_and_functions_are_short_and_flat(path):
    assert size_complaints(path, TREE[path]) + nesting_complaints(path, TREE[path]) == []


def test_no_private_jax():
    sources = {**TREE, **read_tree("tests")}
    assert [c for item in sources.items() for c in private_jax_complaints(*item)] == []


def test_no_import_cycle():
    assert {"simrl/types.py", "simrl/keys.py", "simrl/__init__.py"} <= set(TREE)
    assert cycle_complaints(TREE) == []


def test_top_level_is_tidy():
    assert top_level_complaints(top_level_names()) == []


def test_import_is_light():
    assert loaded_by("import simrl", (*HEAVY, "jax", "numpy")) == []
    assert loaded_by("import simrl; simrl.Spec", HEAVY) == []


KNOWN = {"simrl", "simrl.keys", "simrl.types", "simrl.sweeps.spec", "simrl.sweeps.run", "simrl.cli"}
KNOWN |= {"simrl.measures.flops", "simrl.learners.updates", "simrl.plots.curves"}


@pytest.mark.parametrize(
    ("path", "source", "num_complaints"),
    [
        ("simrl/learners/a.py", "from simrl.measures import flops\nimport jax", 0),
        ("simrl/learners/a.py", "from . import updates\nfrom .updates import step", 0),
        ("simrl/__main__.py", "from simrl import __version__\nfrom simrl.cli import main", 0),
        ("simrl/__init__.py", "from simrl.sweeps.run import run", 0),
        ("simrl/measures/a.py", "from simrl.learners import updates", 1),
        ("simrl/measures/a.py", "def f():\n    import simrl.sweeps.spec", 1),
        ("simrl/measures/a.py", "from simrl.policies.mlp import MLP\nfrom simrl import keys", 1),
        ("simrl/measures/a.py", "from ..sweeps import spec, run", 2),
        ("simrl/keys.py", "from simrl.types import Array", 1),
        ("simrl/engine/a.py", "from simrl import run", 1),
        ("simrl/sweeps/a.py", "from simrl.plots import curves", 1),
        ("simrl/cli.py", "from experiments import crossing", 1),
        ("simrl/plots/a.py", "from simrl.attic import old", 1),
        ("simrl/utils/a.py", "import jax", 1),
    ],
)
def test_floor_rule_can_fail(path, source, num_complaints):
    assert len(floor_complaints(path, source, KNOWN)) == num_complaints


@pytest.mark.parametrize(
    ("source", "num_complaints"),
    [
        ("import simrl\nfrom simrl import Sweep\nfrom simrl.plots import curves", 0),
        ("from experiments.crossing import SWEEP\nsimrl.measures.flops.ledger(1, 1, 'a')", 0),
        ("from simrl.measures.flops import _count_jaxpr", 1),
        ("from simrl import _hidden\nfrom simrl.plots._inner import x", 2),
        ("from simrl.learners import updates\nfrom simrl import keys", 2),
        ("import simrl\nsimrl.measures.flops._RULES.clear()", 1),
    ],
)
def test_door_rule_can_fail(source, num_complaints):
    assert len(door_complaints("experiments/a.py", source, KNOWN)) == num_complaints


def test_size_rule_can_fail():
    def function(num_lines):
        return "def f():\n" + "    pass\n" * (num_lines - 1)

    assert size_complaints("a.py", function(60) * 5) == []
    assert size_complaints("a.py", function(61)) == ["a.py: f has 61 lines"]
    assert size_complaints("a.py", "x = 1\n" * 401) == ["a.py: 401 lines, more than 400"]


@pytest.mark.parametrize(
    ("source", "depth"),
    [
        ("x = 1", 0),
        ("def f():\n for i in x:\n  while i:\n   with i:\n    pass", 3),
        ("def f():\n if a:\n  pass\n elif b:\n  pass\n elif c:\n  pass\n else:\n  pass", 1),
        ("def f():\n if a:\n  pass\n else:\n  if b:\n   pass", 2),
        ("def f():\n if a:\n  def g():\n   try:\n    pass\n   except E:\n    if b:\n     pass", 3),
        ("for i in x:\n for j in x:\n  for k in x:\n   if k:\n    pass", 4),
    ],
)
def test_nesting_rule_can_fail(source, depth):
    assert nesting(ast.parse(source)) == depth
    assert bool(nesting_complaints("a.py", source)) == (depth > MAX_NESTING)


@pytest.mark.parametrize(
    "source",
    ["import jax._src.core", "from jax._src import a", "from jax import _src", "jax._src.core.b"],
)
def test_private_jax_rule_can_fail(source):
    assert len(private_jax_complaints("a.py", "import jax.extend\njax.lax.add\n" + source)) >= 1
    assert private_jax_complaints("a.py", "import jax.extend\njax.lax.add\n") == []


def test_cycle_rule_can_fail():
    tree = {"simrl/a.py": "from simrl import b", "simrl/b.py": "from .c import x", "simrl/c.py": ""}
    assert cycle_complaints(tree) == []
    tree["simrl/c.py"] = "import simrl.a"
    assert len(cycle_complaints(tree)) == 1


def test_top_level_rule_can_fail():
    assert top_level_complaints(TOP_LEVEL | {".gitignore", "build"}) == []
    assert len(top_level_complaints({"simrl", "notes.txt", "utils"})) == 2


def test_light_import_rule_can_fail():
    assert loaded_by("import json.tool", ("json", "pandas")) == ["json"]
