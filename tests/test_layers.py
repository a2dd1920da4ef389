"""The rules of the code, read from its source: levels, owners of outside libraries, sizes, no cycles.

A part is a file or folder with a level; its files import from lower levels and from the part itself. The table below
equals the map in the README (test_readme.py).
"""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = ("lensjax", "datasets", "configs", "run.py")
MAX_FILE, MAX_FUNCTION = 400, 80  # lines

LEVELS = {
    "run.py": 9,
    "lensjax/modes.py": 8,
    "lensjax/explore": 7,
    "lensjax/evaluate": 7,
    "lensjax/search": 6,
    "lensjax/embed": 6,
    "lensjax/train.py": 6,
    "lensjax/tasks": 5,
    "lensjax/data": 4,
    "datasets": 3,
    "lensjax/sims": 2,
    "lensjax/surveys": 2,
    "lensjax/fit": 2,
    "lensjax/physics": 1,
    "lensjax/models": 1,
    "lensjax/core": 1,
    "configs": 1,
    "lensjax/core/errors.py": 0,
    "lensjax/__init__.py": 0,
}

# Outside libraries, or parts of one, that only their owners import.
OWNERS = {
    "tensorflow_datasets": ("lensjax/data/source.py", "datasets/"),
    "flax.linen": ("lensjax/models/",),
    "flax.nnx": (),
    "jax.sharding": ("lensjax/core/sharding.py",),
    "jax.make_mesh": ("lensjax/core/sharding.py",),
    "jax.NamedSharding": ("lensjax/core/sharding.py",),
    "jax.P": ("lensjax/core/sharding.py",),
    "orbax": ("lensjax/core/checkpoint.py",),
    "flask": ("lensjax/explore/app.py",),
    "werkzeug": ("lensjax/explore/app.py",),
}


def source_files(root: pathlib.Path) -> dict[str, ast.Module]:
    """Path relative to the root -> syntax tree, of every source file."""
    paths = [p for s in SOURCES for p in ([root / s] if s.endswith(".py") else sorted((root / s).rglob("*.py")))]
    return {p.relative_to(root).as_posix(): ast.parse(p.read_text()) for p in paths if p.is_file()}


def imported_names(path: str, tree: ast.Module) -> Iterator[str]:
    """Dotted names that a file imports, those inside functions and relative ones included."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def used_names(tree: ast.Module) -> Iterator[str]:
    """Dotted attribute chains such as jax.sharding.Mesh."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def module_file(name: str, files: dict[str, ast.Module]) -> str | None:
    """File of ours that a dotted name leads to: the module itself, or the one that holds the name."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        stem = "/".join(parts[:end])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if path in files:
                return path
    return None


def part(path: str) -> str | None:
    """The longest entry of LEVELS that holds a file."""
    return max((r for r in LEVELS if path == r or path.startswith(r + "/")), key=len, default=None)


def import_graph(files: dict[str, ast.Module]) -> dict[str, set[str]]:
    """File -> files of ours that it imports by name."""
    edges = {path: {module_file(n, files) for n in imported_names(path, tree)} for path, tree in files.items()}
    return {path: {t for t in targets if t and t != path} for path, targets in edges.items()}


def upward_imports(files: dict[str, ast.Module]) -> list[str]:
    bad = [f"{path}: give its part a level" for path in files if part(path) is None]
    for path, targets in import_graph(files).items():
        for target in sorted(targets):
            here, there = part(path), part(target)
            if here and there and here != there and LEVELS[there] >= LEVELS[here]:
                bad.append(f"{path} (level {LEVELS[here]}) imports {target} (level {LEVELS[there]})")
    return bad


def borrowed_libraries(files: dict[str, ast.Module]) -> list[str]:
    bad = []
    for path, tree in files.items():
        names = {*imported_names(path, tree), *used_names(tree)}
        for library, owners in OWNERS.items():
            used = any(n == library or n.startswith(library + ".") for n in names)
            if used and not any(path == o or (o.endswith("/") and path.startswith(o)) for o in owners):
                bad.append(f"{path} uses {library}, which belongs to {' and '.join(owners) or 'nobody'}")
    return bad


def import_cycles(files: dict[str, ast.Module]) -> list[str]:
    graph, done = import_graph(files), set()

    def visit(path: str, trail: tuple[str, ...]) -> list[str]:
        if path in trail:
            return [" -> ".join([*trail[trail.index(path) :], path])]
        if path in done:
            return []
        found = [c for target in sorted(graph[path]) for c in visit(target, (*trail, path))]
        done.add(path)
        return found

    return [cycle for path in graph for cycle in visit(path, ())]


def too_long(root: pathlib.Path, files: dict[str, ast.Module]) -> list[str]:
    bad = []
    for path, tree in files.items():
        lines = len((root / path).read_text().splitlines())
        if lines > MAX_FILE:
            bad.append(f"{path}: {lines} lines, at most {MAX_FILE}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= MAX_FUNCTION:
                bad.append(f"{path}: {node.name} has {node.end_lineno - node.lineno + 1} lines, at most {MAX_FUNCTION}")
    return bad


def violations(root: pathlib.Path) -> list[str]:
    files = source_files(root)
    return upward_imports(files) + borrowed_libraries(files) + import_cycles(files) + too_long(root, files)


@pytest.mark.parametrize("check", [upward_imports, borrowed_libraries, import_cycles])
def test_imports(check):
    bad = check(source_files(ROOT))
    assert not bad, "\n".join(bad)


def test_sizes():
    bad = too_long(ROOT, source_files(ROOT))
    assert not bad, "\n".join(bad)


BAD = {
    "up": ({"lensjax/core/a.py": "from lensjax.sims import lya", "lensjax/sims/lya.py": ""}, "level 1"),
    "sideways": ({"lensjax/fit/a.py": "import lensjax.sims.lya", "lensjax/sims/lya.py": ""}, "level 2"),
    "relative": ({"lensjax/core/a.py": "from ..sims import lya", "lensjax/sims/lya.py": ""}, "level 1"),
    "in a function": ({"configs/a.py": "def f():\n    import lensjax.train", "lensjax/train.py": ""}, "level 6"),
    "no level": ({"lensjax/attic/a.py": ""}, "give its part a level"),
    "owned": ({"lensjax/train.py": "import orbax.checkpoint as ocp"}, "orbax"),
    "owned from": ({"lensjax/tasks/a.py": "from flax import linen as nn"}, "flax.linen"),
    "owned attribute": ({"lensjax/train.py": "import jax\njax.sharding.Mesh"}, "jax.sharding"),
    "cycle": ({"lensjax/fit/a.py": "from lensjax.fit import b", "lensjax/fit/b.py": "from . import a"}, "a.py -> "),
    "long file": ({"lensjax/fit/a.py": "x = 1\n" * 401}, "401 lines"),
    "long function": ({"lensjax/fit/a.py": "def f():\n" + "    x = 1\n" * 80}, "f has 81 lines"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_rule_is_noticed(name, tmp_path):
    files, expected = BAD[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert any(expected in line for line in violations(tmp_path)), violations(tmp_path)


def test_what_is_allowed_passes(tmp_path):
    (tmp_path / "lensjax/core").mkdir(parents=True)
    (tmp_path / "lensjax/core/errors.py").write_text("")
    (tmp_path / "lensjax/core/task.py").write_text("from flax import struct\nfrom lensjax.core import errors\n" * 2)
    assert violations(tmp_path) == []
