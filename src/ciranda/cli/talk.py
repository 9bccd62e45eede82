"""`chat` and `feedback`: through the gateway, as any client would."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ciranda.cli.client import Answer, Client, rebuilt
from ciranda.cli.screen import safe
from ciranda.cli.verb import Desk, verb
from ciranda.errors import Invalid, Unavailable
from ciranda.store import ids

DONE = b"[DONE]"


@verb(
    "chat",
    examples=[
        'ciranda chat smart-home "turn on the kitchen light"',
        "ciranda chat smart-home",
        "echo hello | ciranda chat smart-home",
    ],
)
@click.argument("model")
@click.argument("message", default="")
@click.option("--system", default="", help="A system prompt.")
@click.option("--user", default="", help="Name of the end user; one user always gets the same arm of a rollout.")
@click.option("--max-tokens", type=click.IntRange(1, 100_000), help="Bound of the answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=None, help="0 is the most likely answer.")
@click.option("--gateway", default="", metavar="URL", help="Address of the gateway elsewhere.")
def chat(desk: Desk, model: str, message: str, gateway: str, system: str, user: str, **asked: Any) -> None:
    """Ask a model; the answer comes word by word. Without a message: a conversation, or the standard input."""
    client = desk.gateway(gateway)
    told = [{"role": "system", "content": system}] if system else []
    body = {"model": model, "stream": True, **{name: value for name, value in asked.items() if value is not None}}
    body |= {"user": user} if user else {}
    conversation = ids.new("conv")
    for question in _questions(message):
        told.append({"role": "user", "content": question})
        told.append({"role": "assistant", "content": _ask(desk, client, {**body, "messages": told}, conversation)})


def _questions(message: str) -> Iterator[str]:
    if message:
        yield message
    elif not sys.stdin.isatty():
        content = sys.stdin.read().strip()
        if not content:
            raise Invalid(
                "there is no message", where="chat MODEL MESSAGE", remedy='say something: ciranda chat MODEL "…"'
            )
        yield content
    else:
        while said := click.prompt("you", prompt_suffix="> ", default="", show_default=False):
            yield said


def _ask(desk: Desk, client: Client, body: Mapping[str, Any], conversation: str) -> str:
    """One question; prints the answer while it comes, then whose it was."""
    answer = ""
    with client.stream("/v1/chat/completions", body, {"x-ciranda-conversation": conversation}) as head:
        for piece in pieces(head, client.url):
            answer += piece
            if not desk.json:
                click.echo("".join(one if one == "\n" else safe(one) for one in piece), nl=False)
        about = {
            "interaction": head.headers.get("x-ciranda-interaction", ""),
            "version": head.headers.get("x-ciranda-version", ""),
            "answer": answer,
        }
    desk.show(about, lambda: click.echo())
    desk.tell(f"interaction {about['interaction']} by {about['version']}: `ciranda feedback {about['interaction']} up`")
    return answer


def pieces(head: Answer, url: str) -> Iterator[str]:
    """The text of a streamed answer. A stream that ends without its end mark was cut: that is an error, never an answer."""
    try:
        for line in head.response:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == DONE:
                return
            event = json.loads(data)
            if "error" in event:
                raise rebuilt(event["error"], 503, head.headers.get("x-request-id", ""))
            for choice in event.get("choices", ())[:1]:
                yield choice.get("delta", {}).get("content") or ""
    except (http.client.HTTPException, OSError, ValueError):
        pass
    raise Unavailable(
        "the answer was cut in the middle", where=url, remedy="ask again; what came so far is recorded as incomplete"
    )


@verb(
    "feedback",
    examples=[
        "ciranda feedback 0199b2c4-… up",
        """ciranda feedback 0199b2c4-… down --correction '{"intent": "HassTurnOn"}'""",
    ],
)
@click.argument("interaction")
@click.argument("thumb", type=click.Choice(["up", "down"]))
@click.option("--correction", default="", help="What the answer should have been; the next version may learn from it.")
@click.option("--comment", default="", help="Anything else.")
@click.option("--rating", type=click.FloatRange(1, 5), default=None, help="Stars, 1 to 5.")
@click.option("--reason", "reasons", multiple=True, help="Such as wrong, incomplete, unsafe. May be repeated.")
@click.option("--gateway", default="", metavar="URL", help="Address of the gateway elsewhere.")
def feedback(desk: Desk, interaction: str, thumb: str, gateway: str, **said: Any) -> None:
    """Say what you think of an answer, by the id that `chat` and the answer's headers show."""
    given = {
        name: list(value) if name == "reasons" else value for name, value in said.items() if value not in ("", None, ())
    }
    body = {"interaction": interaction, "thumb": thumb, **given}
    told = desk.gateway(gateway).send("/v1/feedback", body, {"idempotency-key": ids.new("say")})
    desk.show(told, lambda: desk.screen.line(f"thank you: {told['id']}"))
