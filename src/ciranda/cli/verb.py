"""What every command has: the same four options, examples in its help, and a desk with everything at hand.

`--home`, `--url`, `--key` and `--json` may stand before or behind the name of the command. Output goes to stdout, words about it to
stderr, so that a pipe gets the thing that was asked for and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any

import click

from ciranda.errors import Unauthenticated, Unavailable

if TYPE_CHECKING:
    from ciranda.cli.client import Client
    from ciranda.cli.screen import Screen
    from ciranda.config import Home, Settings

OPTIONS = ("home", "url", "key", "json")
AGAIN_S = 0.3


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        context.find_root().meta[f"ciranda.{parameter.name}"] = value


def options() -> list[click.Option]:
    """The four options, kept on the root of the invocation."""
    return [
        click.Option(
            ["--home", "given_home"],
            metavar="FOLDER",
            expose_value=False,
            callback=_keep,
            help="The installation's folder.",
        ),
        click.Option(
            ["--url", "given_url"],
            metavar="URL",
            expose_value=False,
            callback=_keep,
            help="Address of control elsewhere.",
        ),
        click.Option(
            ["--key", "given_key"],
            metavar="KEY",
            expose_value=False,
            callback=_keep,
            help="Key to send; CIRANDA_KEY hides it.",
        ),
        click.Option(
            ["--json", "given_json"], is_flag=True, expose_value=False, callback=_keep, help="Answer as JSON."
        ),
    ]


@dataclass(frozen=True)
class Desk:
    """Where a command works: its options, the home, the line to control, the screen."""

    given: dict[str, Any]

    @property
    def json(self) -> bool:
        return bool(self.given.get("json"))

    @cached_property
    def home(self) -> Home:
        from ciranda import config

        return config.home(self.given.get("home"))

    @cached_property
    def settings(self) -> Settings:
        from ciranda import config

        return config.settings(self.home)

    @cached_property
    def screen(self) -> Screen:
        from ciranda.cli.screen import Screen

        return Screen(plain=self.json)

    @cached_property
    def key(self) -> str:
        """The key to send: the option, the setting, else the one that the first start left in the home."""
        chosen = self.given.get("key") or self.settings.key
        if chosen:
            return str(chosen)
        try:
            return self.home.admin_key.read_text().strip()
        except FileNotFoundError:
            raise Unauthenticated(
                "no key to send",
                where=str(self.home.admin_key),
                remedy="set CIRANDA_KEY or give --key; on the machine of the installation, `ciranda up` leaves one in the home",
            ) from None

    def patiently(self, ask: Callable[[], Any], *, seconds: float = 60.0) -> Any:
        """The answer, also when control is being restarted meanwhile; its address may change with that."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(AGAIN_S)
            self.__dict__.pop("control", None)

    @cached_property
    def control(self) -> Client:
        """The line to control: the option, the setting, else what runs in this home."""
        from ciranda.cli.client import Client

        url = self.given.get("url") or self.settings.url or self._announced("control", "control")
        return Client(str(url), self.key, remedy=self._remedy)

    def gateway(self, url: str = "") -> Client:
        """The line to the gateway: the option, what runs in this home, else what control says."""
        from ciranda.cli.client import Client

        elsewhere = self.given.get("url") or self.settings.url
        if not url and elsewhere:
            told = self.control.get("/status")["gateway"]
            url = str(told["url"]) if told else ""
        return Client(url or self._announced("gateway-1", "the gateway"), self.key, remedy=self._remedy)

    @property
    def _remedy(self) -> str:
        return (
            "is it running? `ciranda up` starts it"
            if not self.given.get("url")
            else "check --url, and that it runs there"
        )

    def _announced(self, name: str, called: str) -> str:
        """The address that a process of this home wrote when it was ready."""
        file = self.home.run / f"{name}.json"
        try:
            return str(json.loads(file.read_text())["url"])
        except (OSError, ValueError, KeyError):
            raise Unavailable(
                f"{called} is not running here",
                where=str(self.home.path),
                remedy="start it with `ciranda up`, or name one: --url",
            ) from None

    def show(self, value: Any, draw: Callable[[], None]) -> None:
        """The answer: JSON when that was asked for, else drawn."""
        if self.json:
            click.echo(json.dumps(value, ensure_ascii=False, indent=1 if sys.stdout.isatty() else None))
        else:
            draw()

    def tell(self, text: str) -> None:
        """Words about the answer, beside it."""
        if not self.json:
            click.echo(text, err=True)


class Verb(click.Command):
    """A command with the four options, and examples at the end of its help."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.examples = tuple(examples)
        self.params.extend(options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  $ {example}\n")


class Noun(click.Group):
    """Commands about one thing; without one of them it lists."""

    def __init__(self, name: str, *, examples: Sequence[str], **named: Any) -> None:
        super().__init__(name, invoke_without_command=True, callback=click.pass_context(self._list), **named)
        self.examples = tuple(examples)
        self.params.extend(options())

    format_epilog = Verb.format_epilog

    def _list(self, context: click.Context) -> None:
        if context.invoked_subcommand is None:
            context.invoke(self.commands["list"])


def verb(
    name: str, *, examples: Sequence[str], of: Noun | None = None, short: str | None = None
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command; it is given the desk, then its own parameters."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def run(**values: Any) -> None:
            meta = click.get_current_context().find_root().meta
            function(Desk({option: meta.get(f"ciranda.given_{option}") for option in OPTIONS}), **values)

        return (of or click).command(name, cls=Verb, examples=examples, short_help=short)(run)

    return decorate
