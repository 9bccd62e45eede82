"""The docs are run: pages made from the code are fresh, everything has its line, commands and files shown in prose work."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from ciranda import cli
from ciranda.config import Settings
from ciranda.config import model as files
from ciranda.config.model import ModelSpec
from ciranda.errors import CirandaError
from ciranda.store.database import metadata
from ciranda.web import api

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def generator() -> Any:
    found = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


GENERATOR = generator()


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", GENERATOR.PAGES)
def test_a_page_made_from_the_code_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text() == GENERATOR.PAGES[name](), "run `make docs`"


def test_every_command_setting_key_error_route_and_table_has_its_line() -> None:
    """Counted, so that a page cannot be fresh and yet leave something out."""
    pages = {name: (DOCS / name).read_text() for name in GENERATOR.PAGES}
    commands = list(GENERATOR.leaves(cli.cli))
    assert pages["cli.md"].count("\n## ciranda ") == len(commands) >= 28
    assert len(re.findall(r"^\| `\w+` \| `CIRANDA_", pages["settings.md"], re.M)) == len(Settings.model_fields)
    assert all(f"| `{name}" in pages["model-file.md"] for name in ModelSpec.model_fields)
    ours = [one for one in CirandaError.__subclasses__() if one.__module__ == "ciranda.errors"]
    assert len(re.findall(r"^\| `\w+` \| \d{3} ", pages["errors.md"], re.M)) == len(ours)
    assert len(re.findall(r"^\| `(?:GET|POST) /", pages["rest.md"], re.M)) == len(api.ROUTES)
    list(GENERATOR.owned())
    assert all(f"| `{name}` |" in pages["tables.md"] for name in metadata.tables)


def test_every_table_has_one_writer_and_a_sentence() -> None:
    owners = GENERATOR.owned()
    assert set(owners) == set(metadata.tables)
    assert set(owners) <= set(GENERATOR.TABLES)


def shown() -> Iterator[tuple[str, str]]:
    """Every command of ours that a page shows, with where it stands."""
    for path in PROSE:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r"^(?:    |  \$ |\$ )(?:[A-Z_]+=\S+ )?(ciranda .+)$", line)
            for text in ([found[1]] if found else []) + re.findall(r"`(ciranda [a-z][^`]*)`", line):
                yield text, f"{name_of(path)}:{number}"


@pytest.mark.parametrize(("line", "place"), sorted(dict(shown()).items()))
def test_a_command_that_a_page_shows_exists_with_its_options(line: str, place: str) -> None:
    words = shlex.split(line.split(" #")[0].split(" | ")[0].replace("…", "x"))[1:]
    command: click.Command = cli.cli
    context = click.Context(command, info_name="ciranda")
    while words and words[0] in ("--home", "--url", "--key"):
        words = words[2:]
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{place} shows `{line}`, which is no command"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, f"{place}: {line}"


def test_the_model_files_that_are_shown_and_written_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    starters = ROOT / "src/ciranda/cli/starters"
    for text in (*blocks, *(path.read_text() for path in starters.glob("*.yaml") if path.name != "routing.yaml")):
        assert files.read(text, file="README.md").model == yaml.safe_load(text)["model"]


def test_the_python_that_is_shown_is_python() -> None:
    for path in PROSE:
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.S):
            ast.parse(block)


def test_links_lead_somewhere() -> None:
    broken = [
        f"{name_of(path)} -> {target}"
        for path in PROSE
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert not broken


def test_every_decision_is_listed_with_what_was_rejected() -> None:
    pages = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
    listed = (DOCS / "decisions/README.md").read_text()
    assert len(pages) >= 7
    for page in pages:
        assert f"({page.name})" in listed
        text = page.read_text()
        assert all(part in text for part in ("**Chosen.**", "**Why.**", "**Rejected.**", "**Would change it.**")), (
            page.name
        )


def test_the_order_in_the_architecture_is_the_order_that_is_tested() -> None:
    from test_layout import ORDER

    assert " ".join(ORDER) in (DOCS / "architecture.md").read_text()


def test_nothing_committed_names_a_machine() -> None:
    """No absolute path of a build machine, no index of packages, in anything that people read or run."""
    read = [*PROSE, ROOT / "Makefile", ROOT / ".ci/run", ROOT / "constraints.txt", ROOT / "pyproject.toml"]
    forbidden = re.compile(
        r"(^|[\s\"'`(=])/(work|opt|root|home/\w+|mnt|usr/local)/|extra-index-url +http|index-url *= *http|file://"
    )
    assert [name_of(path) for path in read if forbidden.search(path.read_text())] == []
