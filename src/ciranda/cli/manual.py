"""`help`: settings, keys of a model file, errors, and every command. The same texts that docs/ is written from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_origin

import click

from ciranda.cli.verb import Desk, verb
from ciranda.errors import NotFound


@verb(
    "help",
    examples=[
        "ciranda help",
        "ciranda help settings",
        "ciranda help model",
        "ciranda help errors",
        "ciranda help train",
    ],
)
@click.argument("topic", nargs=-1)
def manual(desk: Desk, topic: tuple[str, ...]) -> None:
    """Explain a topic (settings, model, errors) or a command."""
    root = click.get_current_context().find_root()
    if not topic:
        click.echo(root.get_help())
        click.echo("\nTopics: ciranda help settings | model | errors")
    elif topic[0] in TOPICS:
        columns, rows = TOPICS[topic[0]]()
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        desk.show({"items": found}, lambda: desk.screen.table(columns, [list(one.values()) for one in found]))
    else:
        _command(root, topic)


def _command(root: click.Context, topic: tuple[str, ...]) -> None:
    command, context = root.command, root
    for name in topic:
        found = command.get_command(context, name) if isinstance(command, click.Group) else None
        if found is None:
            raise NotFound(
                f"no topic or command {' '.join(topic)!r}",
                where="help",
                remedy=f"`ciranda help` lists them; topics: {', '.join(TOPICS)}",
            )
        context = click.Context(found, info_name=name, parent=context)
        command = found
    click.echo(command.get_help(context))


def settings() -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """Every setting: its name, default and sentence."""
    from ciranda.config import PREFIX, Settings

    rows = (
        (
            name,
            f"{PREFIX}{name.upper()}",
            str(field.default).lower() if isinstance(field.default, bool) else str(field.default),
            field.description,
        )
        for name, field in Settings.model_fields.items()
    )
    return ("setting", "variable", "default", "meaning"), rows


def model() -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """Every key of a model file."""
    from ciranda.config.model import ModelSpec

    return ("key", "values", "default", "meaning"), keys(ModelSpec)


def errors() -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """Every error class."""
    from ciranda.cli.client import tree

    rows = (
        (one.__name__, one.status, one.exit_code, "yes" if one.retry else "no", (one.__doc__ or "").split("\n")[0])
        for one in sorted(tree(), key=lambda one: one.status)
    )
    return ("error", "status", "exit code", "retry helps", "meaning"), rows


def keys(shape: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """The keys of a section, then those of the sections below it."""
    for name, field in shape.model_fields.items():
        inner = _section(field.annotation)
        meaning = field.description or (inner.__doc__.split("\n")[0] if inner else "")
        listed = "[]" if inner and get_origin(field.annotation) is tuple else ""
        name = field.alias or name
        yield f"{prefix}{name}{listed}", "" if inner else _values(field), "" if inner else default(field), meaning
        if inner:
            yield from keys(inner, f"{prefix}{name}{listed}.")


def _section(annotation: Any) -> Any:
    """The section inside an annotation: itself, or the item of a tuple of sections."""
    from pydantic import BaseModel

    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _values(field: Any) -> str:
    """What a key may hold, in words."""
    from pydantic import TypeAdapter

    if _lasts(field):
        return "duration"
    return _words(TypeAdapter(field.annotation).json_schema())


def _lasts(field: Any) -> bool:
    """Whether a key holds a duration."""
    from ciranda.config.shape import seconds

    inner = [one for part in getattr(field.annotation, "__args__", ()) for one in getattr(part, "__metadata__", ())]
    return any(getattr(one, "func", None) is seconds for one in (*field.metadata, *inner))


def _words(schema: dict[str, Any]) -> str:
    """A JSON schema as people say it."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(filter(None, (_words(one) for one in schema["anyOf"]))))
    if schema.get("type") == "array":
        return f"list of {_words(schema.get('items', {})) or 'values'}"
    if schema.get("type") == "object":
        inside = schema.get("additionalProperties")
        return f"map to {_words(inside)}" if isinstance(inside, dict) else "map"
    names = {"string": "text", "number": "number", "integer": "number", "boolean": "true | false"}
    return names.get(str(schema.get("type")), "")


def default(field: Any) -> str:
    """A field's default as one writes it in YAML."""
    if field.is_required():
        return "(required)"
    value = field.default
    if value is None:
        return "-"
    if _lasts(field):
        return next(f"{value / size:g}{unit}" for unit, size in UNITS if value % size == 0)
    return value or '""' if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
TOPICS = {"settings": settings, "model": model, "errors": errors}
