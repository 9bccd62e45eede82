"""The shape of the code, held by reading it: what imports what, where foreign names live, how errors look."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ciranda
from ciranda import errors
from ciranda.errors import CirandaError

ROOT = Path(ciranda.__file__).parent
ORDER = (
    "errors", "config", "store", "jobs", "govern", "interactions", "data", "evals", "train", "registry", "deploy", "gateway",
    "monitor", "engines", "loop", "web", "cli",
)  # fmt: skip
FILES = sorted(path for path in ROOT.rglob("*.py") if "migrations/versions" not in path.as_posix())
PUBLIC = {
    "ciranda": ["__version__"],
    "ciranda.cli": ["cli", "main"],
    "ciranda.web.api": ["PREFIX", "ROUTES", "Rest", "routes"],
    "ciranda.loop": [
        "Control", "Platform", "apply", "approve", "decline", "erase", "erase_v1", "evaluate", "first_key", "ingest", "keep",
        "open", "override", "plan", "promote", "publish", "release", "rollback", "start_turn", "turn_v1", "up",
    ],
}  # fmt: skip
# A foreign library is named in one file, or in one package that owns what it stores.
FOREIGN: dict[str, str | tuple[str, ...]] = {
    "croniter": "config/cron.py", "dlt": "data/sources/connectors.py", "obstore": ("store/objects.py", "data/sources/buckets.py"),
    "torch": "engines/peft", "peft": "engines/peft", "trl": "engines/peft_pairs.py", "datasets": "engines/peft_pairs.py",
    "transformers": "engines/peft", "safetensors": "engines/",
    "ray": "engines/ray_job.py", "lightkube": "engines/kubernetes.py", "httpx2": "engines/kubernetes.py",
    "gguf": "engines/gguf.py", "xllamacpp": "engines/llamacpp.py", "hassil": "engines/hassil.py",
    "home_assistant_intents": "engines/hassil.py",
    "huggingface_hub": ("engines/peft", "data/hub.py"), "dbos": "jobs/durable.py",
    "chdb": "interactions/", "clickhouse_connect": "interactions/", "lance": "data/", "alembic": "store/",
    "optuna": "train/studies.py", "optuna_dashboard": "train/studies.py",
    "zlib_ng": "interactions/spool.py",
    "httptools": "gateway/", "uvloop": ("gateway/", "engines/fake.py"), "starlette": "web/", "uvicorn": "web/",
    "jinja2": "web/", "google": "interactions/otlp/wire.py", "opentelemetry": "interactions/otlp/wire.py",
    "cryptography": "govern/signatures.py",
    "click": "cli/", "rich": "cli/", "openai": "cli/crowd.py", "py3langid": "data/language.py",
    "python_multipart": "web/openai/parts.py",
}  # fmt: skip
ENGINES_ARE_STARTED_BY = ("loop/", "cli/demo.py")  # the demo asks the sentences' package for what its users say
BROAD = {"loop/beat.py", "web/api/door.py"}
TAUGHT = 0.03  # at most this share of errors may leave out where, or what to do
RAW_ROWS = {
    "data/versions.py": "writes them",
    "data/shelf.py": "keeps them",
    "data/writing.py": "changes them, for versions and erasure",
    "data/sizes.py": "asks how large their files are, and reads none",
    "data/compare.py": "finds what differs, for the door",
    "data/branches.py": "another name for rows as they lie",
    "data/collect.py": "removes them",
    "data/movement.py": "figures of whole versions; the door decides who sees which",
    "data/reading.py": "the door itself",
    "data/erasure.py": "takes a person out of them",
    "data/succession.py": "what goes back into the dataset that it came from",
    "data/contamination.py": "compares prompts with suites; keeps counts and keys, none of the texts",
    "data/statistics.py": "counts what all rows hold; who may not see a field does not see its values there",
}  # everybody else reads through data/reading.py, where the policies are
RAW = re.compile(r"(versions|datasets)\.(batches|read|export|diff)$|(^|\.)shelf\.")
OPENAI_DIALECT = ("gateway/", "engines/fake.py")
LONGEST_FILE, LONGEST_FUNCTION = 420, 60
EMPTY_NOUNS = re.compile(r"(^|_)(utils?|common|base|core|helpers?|manager|misc)($|_)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported anywhere in a file, also by `import_module` and behind TYPE_CHECKING."""
    package = ["ciranda", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((node.lineno, str(given.value)) for given in node.args[:1] if isinstance(given, ast.Constant))


def ours(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, part of the order and full name of what a file imports from us."""
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "ciranda" and len(parts) > 1 and parts[1] in ORDER:
            yield line, parts[1], name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_leftwards(path: Path) -> None:
    mine = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if mine in ("__init__", "__main__"):
        return
    assert mine in ORDER, f"{mine} has no place in the order: {' '.join(ORDER)}"
    wrong = [f"line {line}: {name}" for line, part, name in ours(path) if ORDER.index(part) > ORDER.index(mine)]
    assert not wrong, f"{name_of(path)} imports to its right; call it from loop, or write a row that it reads: {wrong}"


def test_engines_know_neither_each_other_nor_who_starts_them() -> None:
    wrong = []
    for path in FILES:
        place = name_of(path)
        for line, part, name in ours(path):
            if part != "engines" or place.startswith(ENGINES_ARE_STARTED_BY):
                continue
            if place.startswith("engines/") and _same_system(place, name):
                continue
            wrong.append(f"{place}:{line} imports {name}")
    assert not wrong


def _same_system(place: str, name: str) -> bool:
    """A job's entry point may import the system it runs (`peft_job` -> `peft`), and the formats it writes; both halves of the
    fake know the parrot."""
    halves = place.startswith("engines/peft") and name.startswith("ciranda.engines.peft")
    return place == "engines/peft_job.py" or halves or name.startswith("ciranda.engines.parrot")


def test_a_foreign_library_is_named_in_one_place() -> None:
    wrong = [
        f"{name_of(path)}:{line} imports {name}"
        for path in FILES
        for line, name in imports(path)
        if (home := FOREIGN.get(name.split(".")[0])) is not None and not name_of(path).startswith(home)
    ]
    assert not wrong


def test_the_environment_is_read_in_config_alone() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        if name_of(path) != "config/__init__.py"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv")
    ]
    assert not wrong


def test_rows_are_read_through_the_one_door() -> None:
    """A reader that went to the shelf itself would see what policies hide."""
    wrong = []
    for path in FILES:
        if (place := name_of(path)) in RAW_ROWS:
            continue
        wrong += [
            f"{place}:{line} imports {name}" for line, name in imports(path) if name.startswith("ciranda.data.shelf")
        ]
        wrong += [
            f"{place}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Attribute) and RAW.search(ast.unparse(node)) and "ciranda.data" in path.read_text()
        ]
        wrong += [f"{place}:{line}" for line, name in imports(path) if RAW.search(name) and "data" in name]
    assert not wrong, f"read rows with `data.reading`, as a Reader who says what for: {wrong}"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_few_sorted_and_pinned(name: str) -> None:
    module = __import__(name, fromlist=["__all__"])
    assert module.__all__ == PUBLIC[name]
    assert all(hasattr(module, public) for public in module.__all__)


def test_every_module_says_what_it_is_for() -> None:
    silent = [name_of(path) for path in FILES if path.read_text().strip() and not ast.get_docstring(tree_of(path))]
    assert not silent


def test_modules_and_classes_have_found_their_noun() -> None:
    files = [name_of(path) for path in FILES if EMPTY_NOUNS.search(path.stem)]
    classes = [
        f"{name_of(path)}: {node.name}"
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Manager", "Handler", "Helper", "Utils"))
    ]
    assert not files + classes


def test_files_and_functions_stay_short() -> None:
    long = [
        f"{name_of(path)}: {count} lines"
        for path in FILES
        if (count := len(path.read_text().splitlines())) > LONGEST_FILE
    ]
    long += [
        f"{name_of(path)}: {node.name} has {size} lines"
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not long


# --- errors -----------------------------------------------------------------------------------------------------------


def classes(root: type[CirandaError] = CirandaError) -> Iterator[type[CirandaError]]:
    for child in root.__subclasses__():
        if child.__module__ == "ciranda.errors":
            yield child
            yield from classes(child)


TREE = list(classes())


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_an_error_class_knows_its_status_its_exit_code_and_whether_to_try_again(error: type[CirandaError]) -> None:
    assert 400 <= error.status < 600
    assert 1 <= error.exit_code < 64
    assert error.retry == (error.status in (429, 503, 507))
    assert error.kind.endswith("_error")
    assert error.__doc__
    assert error.__name__ in (errors.__doc__ or ""), "draw it in the tree at the top of errors.py"
    assert re.search(rf"{error.__name__}\s+{error.status}\b", errors.__doc__ or ""), "the tree tells another status"


def test_statuses_are_told_apart_and_the_wire_carries_everything() -> None:
    assert max(Counter(error.status for error in TREE).values()) == 1
    told = errors.Refused("no", where="gate", remedy="train again").to_dict()
    assert told == {
        "type": "refused_error", "code": "Refused", "message": "no", "where": "gate", "remedy": "train again", "retry": False,
    }  # fmt: skip


def raises() -> Iterator[tuple[str, ast.Call]]:
    """Every place where an error of ours is made."""
    names = {error.__name__ for error in TREE}
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("errors.") in names:
                yield f"{name_of(path)}:{node.lineno}", node


def test_errors_say_where_and_what_to_do() -> None:
    """Nearly all do. The doors that speak OpenAI's dialect, which has no field for a place, put it into the message."""
    made = [(place, {word.arg: word.value for word in call.keywords}) for place, call in raises()]
    for word, exempt in (("where", OPENAI_DIALECT), ("remedy", ())):
        asked = [(place, given) for place, given in made if not place.startswith(exempt) and None not in given]
        silent = [place for place, given in asked if _nothing(given.get(word))]
        assert len(silent) <= TAUGHT * len(asked), f"{word} is missing in {len(silent)} of {len(asked)}: {silent}"


def _nothing(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and not value.value)


def test_what_is_caught_is_named() -> None:
    wrong = []
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler) and _broad(node) and not _raises_again(node):
                wrong.append((name_of(path), node.lineno))
    assert {place for place, _ in wrong} <= BROAD, wrong
    assert len(wrong) <= len(BROAD)


def _broad(node: ast.ExceptHandler) -> bool:
    caught = ast.unparse(node.type) if node.type else "BaseException"
    return bool({"Exception", "BaseException"} & set(re.findall(r"\w+", caught)))


def _raises_again(node: ast.ExceptHandler) -> bool:
    return any(isinstance(one, ast.Raise) and one.exc is None for one in ast.walk(node))
