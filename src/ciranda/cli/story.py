"""`demo`: the whole loop on real sentences, told while it happens."""

from __future__ import annotations

import click

from ciranda.cli.verb import Desk, verb


@verb("demo", examples=["ciranda demo", "ciranda demo --fast", "ciranda demo --first de --then fr --stay"])
@click.option("--fast", is_flag=True, help="The same story with fewer steps and messages.")
@click.option(
    "--first", default="en", show_default=True, metavar="LANG", help="The language that the assistant learns first."
)
@click.option("--then", default="pt-BR", show_default=True, metavar="LANG", help="The language that arrives later.")
@click.option("--stay", is_flag=True, help="Leave the platform running at the end.")
def demo(desk: Desk, fast: bool, first: str, then: str, stay: bool) -> None:
    """Tell the story: data, training, release, drift, a better version, rollback. On real sentences, in a home of its own."""
    import signal
    from pathlib import Path

    from ciranda.cli.demo import run
    from ciranda.cli.screen import Screen

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, it ends its platform too
    given = desk.given.get("home")
    screen = Screen(beside=desk.json)
    told = run(fast=fast, first=first, then=then, stay=stay, home=Path(given) if given else None, screen=screen)
    desk.show(told, lambda: None)
