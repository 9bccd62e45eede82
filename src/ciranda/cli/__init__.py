"""The command line: a client of the REST API, so every command works here and, with `--url` and a key, anywhere else.

Commands live in modules that are imported when one of them is called, and heavy libraries at first use inside: `ciranda --help`
answers at once. Errors are printed as what, where and the remedy, on stderr, with the exit code of their class; a traceback is
shown for bugs alone. Only `init`, `up`, `down`, `base`, `demo`, `audit verify` and
`search dashboard` work on a home directly.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from ciranda import __version__
from ciranda.cli.verb import options
from ciranda.errors import CirandaError, Failed, StorageFull

COMMANDS = {
    "init": "home", "up": "home", "down": "home", "status": "watch", "plan": "files", "apply": "files",
    "ingest": "sources", "sources": "sources", "quarantine": "sources",
    "executors": "executors",
    "train": "turn", "evaluate": "turn", "runs": "runs", "promote": "release", "rollback": "release", "approve": "release",
    "reproduce": "again",
    "chat": "talk", "feedback": "talk", "interactions": "recorded", "datasets": "lines", "data": "chores", "review": "reviews",
    "search": "seeking",
    "release": "release", "approvals": "release", "decline": "release", "override": "release", "versions": "versions",
    "suite": "suites",
    "judges": "judges", "compare": "judges", "replay": "replay",
    "glossary": "datasets", "lineage": "chain", "drift": "look", "alerts": "look", "audit": "trust", "keys": "keys",
    "tenants": "keys", "policy": "policy", "exports": "policy", "erase": "erase", "base": "home", "demo": "story", "help": "manual",
}  # fmt: skip
INTERRUPTED = 130


class Ciranda(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"ciranda.cli.{COMMANDS[cmd_name]}")
        found = [one for one in vars(module).values() if isinstance(one, click.Command) and one.name == cmd_name]
        return found[0]


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"ciranda {__version__}")
        context.exit()


cli = Ciranda(
    "ciranda",
    params=[
        *options(),
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The loop that keeps fine-tuned language models good: data, training, gates, releases, live traffic, drift, and back.",
    epilog="Start with `ciranda init` and `ciranda up`. Topics: `ciranda help settings`, `model`, `errors`.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_run(given))
    except BrokenPipeError:
        _silence()
        sys.exit(0)


def _run(given: list[str]) -> int:
    try:
        cli.main(args=given, prog_name="ciranda", standalone_mode=False)
    except CirandaError as error:
        return _told(error, given)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        return _told(_refused(error), given)
    return 0


def _told(error: CirandaError, given: Sequence[str]) -> int:
    """What, where, and the remedy; as JSON for programs."""
    if "--json" in given:
        click.echo(json.dumps({"error": error.to_dict()}, ensure_ascii=False), err=True)
        return error.exit_code
    click.secho(f"error: {error.message}", err=True, fg="red" if sys.stderr.isatty() else None)
    if error.where:
        click.echo(f"  where: {error.where}", err=True)
    if error.remedy:
        click.echo(f"  do: {error.remedy}", err=True)
    return error.exit_code


def _refused(error: OSError) -> CirandaError:
    """The system said no to a file: which one, and why."""
    place = str(error.filename or "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"the disk is full: {error.strerror}", where=place, remedy="free some space, then run it again"
        )
    return Failed(
        f"{error.strerror or error}", where=place, remedy="see to the file's owner and rights, then run it again"
    )


def _silence() -> None:
    """Nobody reads our output any more: let the interpreter's last flush go nowhere."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["cli", "main"]
