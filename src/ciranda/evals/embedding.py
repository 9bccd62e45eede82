"""Texts as vectors, for the scorers that compare meaning: built-in words, or a server that answers `/v1/embeddings`.

    words    hashed words and n-grams (`data.vectors`): no model, no network, the same everywhere; sees wording, not meaning
    base     the model's own base, served beside the exam: sees meaning, and is the same for every version that is compared
    url      any OpenAI-compatible server

Vectors of two embeddings are never compared: every call embeds all that it compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from ciranda import config
from ciranda.data import vectors
from ciranda.data.vectors import Floats32
from ciranda.errors import Failed, Unavailable
from ciranda.govern import outgoing

if TYPE_CHECKING:
    import httpx

ANSWER_S = 60
CHARACTERS = 4000
KEPT = 4096  # vectors remembered: a reference is compared with every answer to it


def words(texts: Sequence[str]) -> Floats32:
    """The built-in embedding: one row of length one for each text."""
    return vectors.embed(texts)


@dataclass(frozen=True)
class Server:
    """A server's `/v1/embeddings`, as `evaluate: embedding` names it. Calls are safe from several threads.

    Args:
        key: Reference to its key (`env:NAME`, `file:/path`), or empty.
        private: Whether it may be at a private address.
    """

    url: str
    name: str
    key: str = ""
    private: bool = False

    def __call__(self, texts: Sequence[str]) -> Floats32:
        """One row of length one for each text.

        Raises:
            Refused: It is at a private address, which the operator did not let through.
            Unavailable: It does not answer, or its key is not there.
            Failed: It answers no vectors.
        """
        return np.stack([_remembered(self, text[:CHARACTERS] or " ") for text in texts])

    def ask(self, text: str) -> Floats32:
        """One vector, asked for."""
        answer = self._post({"model": self.name, "input": [text]})
        try:
            row = np.asarray(answer.json()["data"][0]["embedding"], np.float32)
        except (KeyError, IndexError, TypeError, ValueError):
            raise Failed("the server answered no vector", where=self.url, remedy="does the model embed?") from None
        return row / max(float(np.linalg.norm(row)), 1e-9)

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        import httpx

        try:
            with httpx.Client(timeout=ANSWER_S, trust_env=False, headers=self._headers) as client:
                name = {"sni_hostname": urlsplit(self.url).hostname or ""}
                answer = client.post(self._target, json=body, extensions=name)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"no vectors: {error}", where=self.url, remedy="is the embedding server running?"
            ) from None
        if answer.status_code >= 400:
            kind = Unavailable if answer.status_code >= 500 or answer.status_code == 429 else Failed
            raise kind(f"no vectors: {answer.status_code} {answer.text[:200]}", where=self.url,
                       remedy="look at `evaluate: embedding` in the model's file")  # fmt: skip
        return answer

    @property
    def _target(self) -> httpx.URL:
        """Its address, with the host that was checked in the place of the name."""
        import httpx

        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = outgoing.address_of(
            parts.hostname or "", port, allow_private=self.private, where="evaluate: embedding"
        )
        root = self.url.rstrip("/").removesuffix("/v1")
        return httpx.URL(f"{root}/v1/embeddings").copy_with(host=outgoing.as_host(address))

    @property
    def _headers(self) -> dict[str, str]:
        key = config.secret(self.key) if self.key else ""
        if key is None:
            raise Unavailable(
                f"there is no secret at {self.key}", where="evaluate: embedding", remedy="set it for control"
            )
        sent = {"host": urlsplit(self.url).netloc.rpartition("@")[2], "connection": "close"}
        return {**sent, "authorization": f"Bearer {key}"} if key else sent


@lru_cache(maxsize=KEPT)
def _remembered(server: Server, text: str) -> Floats32:
    return server.ask(text)
