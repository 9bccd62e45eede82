"""`plan` and `apply`: what is written in the model files, as it would be and then is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from ciranda.cli.verb import Desk, verb
from ciranda.errors import Invalid, NotFound

SIGNS = {"model.create": ("+", "green"), "model.change": ("~", "yellow"), "deployment.settle": (">", "cyan")}
SUFFIXES = (".yaml", ".yml")
LONGEST = 1 << 20


@verb(
    "plan",
    examples=[
        "ciranda plan",
        "ciranda plan models/smart-home.yaml",
        "ciranda plan models/ --json",
        "ciranda plan --manifests | kubectl apply --dry-run=server -f -",
    ],
)
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--manifests", is_flag=True, help="The Jobs that training on Kubernetes would make, as YAML.")
def plan(desk: Desk, paths: tuple[str, ...], manifests: bool) -> None:
    """Show what `apply` would do with these model files (by default, all of ./models). Changes nothing."""
    if manifests:
        jobs = desk.control.post("/manifests", {"files": read(paths)})
        desk.show(jobs, lambda: _manifests(desk, jobs))
        return
    told = desk.control.post("/plan", {"files": read(paths)})
    desk.show(told, lambda: _draw(desk, told))


@verb("apply", examples=["ciranda apply", "ciranda apply models/smart-home.yaml --yes"])
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--yes", is_flag=True, help="Do not ask. Without a terminal it never asks.")
def apply(desk: Desk, paths: tuple[str, ...], yes: bool) -> None:
    """Make these model files true (by default, all of ./models). Nothing is deleted by leaving it out."""
    files = read(paths)
    if not yes and desk.screen.rich:
        todo = desk.control.post("/plan", {"files": files})
        _draw(desk, todo)
        if not todo["steps"] or not click.confirm("Do this?", default=True):
            return
    told = desk.control.post("/apply", {"files": files})
    desk.show(told, lambda: _applied(desk, told))


def read(paths: Sequence[str]) -> dict[str, str]:
    """The text of each model file by its absolute path, since what a file names is relative to where it lies."""
    found = [file for path in paths or ("models",) for file in _under(Path(path))]
    files = {str(file.absolute()): _text(file) for file in found}
    if not files:
        raise NotFound(
            f"no model file in {', '.join(paths or ('models',))}",
            where=str(Path.cwd()),
            remedy="name a .yaml file or a folder of them; `ciranda init` writes an example",
        )
    return files


def _under(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not path.exists():
        raise NotFound(
            f"no file {path}", where=str(Path.cwd()), remedy="check the name; `ciranda init` writes an example"
        )
    return [path]


def _text(file: Path) -> str:
    content = file.read_bytes()
    if len(content) > LONGEST:
        raise Invalid(f"{file} has {len(content)} bytes", where=str(file), remedy="a model file is a few lines of YAML")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{file} is no text in UTF-8", where=str(file), remedy="save it as UTF-8") from None


def _manifests(desk: Desk, told: Mapping[str, Any]) -> None:
    for job in told["items"]:
        click.echo("---\n" + yaml.safe_dump(job, sort_keys=False), nl=False)
    if not told["items"]:
        desk.tell("no model of these trains on Kubernetes (`train: {executor: kubernetes}`)")


def _draw(desk: Desk, told: Mapping[str, Any]) -> None:
    for step in told["steps"]:
        sign, style = SIGNS.get(step["kind"], (" ", ""))
        desk.screen.line(f"{sign} {step['summary']}", style)
        for key, old, new in step["detail"].get("changes", ()):
            desk.screen.line(f"    {key}: {_short(old)} -> {_short(new)}")
    for one in told.get("estimates", ()):
        desk.screen.line(f"  training {one['model']}: {expected(one)}", "red" if one["problem"] else "")
    if not told["steps"]:
        desk.screen.line("nothing to do: everything is as the files say")


def expected(one: Mapping[str, Any]) -> str:
    """An estimate in one line."""
    if one["problem"]:
        return f"{one['problem']}; do: {one['remedy']}"
    return str(one["summary"] or one["unknown"])


def _applied(desk: Desk, told: Mapping[str, Any]) -> None:
    _draw(desk, told)
    if told["steps"]:
        desk.screen.line(f"applied {len(told['steps'])} {'step' if len(told['steps']) == 1 else 'steps'}", "green")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
