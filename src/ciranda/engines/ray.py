"""Ray: jobs for a running cluster, through the REST API of its head (`/api/jobs/`). Ray itself is not imported here.

The head is told an entry point (`engines.ray_job`, which trains with Ray Train on whatever node has room), an id, and an
environment without secrets. The same id again is refused by Ray, so a job begins once. Since Ray 2.60 a head asks for a token by
default; ours is given by reference (`ray_token`). What a head forgets (it keeps jobs only as long as it lives) is `absent`.
"""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ciranda.config import secret
from ciranda.errors import Failed, Invalid, Unauthenticated, Unavailable
from ciranda.jobs.orders import Address, Order
from ciranda.jobs.remote import Seen

# Not `-m`: Ray Train sends the worker's function by the name of its module, which `__main__` would not be elsewhere.
ENTRY = "import sys; from ciranda.engines.ray_job import main; sys.exit(main())"
TIMEOUT_S = 30.0
LOG_BYTES = 32 << 20
OPEN = ("PENDING", "RUNNING")


class Ray:
    """A cluster by the address of its head (`jobs.remote.Cluster`).

    Args:
        url: `http://head:8265`.
        token: A reference to the cluster's token; empty for a head without one.
        address: Where its jobs find their orders; completed with place and attempt.
    """

    kind = "ray"

    def __init__(self, url: str, token: str, address: Address) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise Invalid(f"{url!r} is no address of Ray", where="setting ray_url", remedy="write http://head:8265")
        self.url, self._token, self._address = url.rstrip("/"), token, address

    def start(self, order: Order) -> None:
        """Hand the job over; one that is there already is left as it is."""
        body = {
            "entrypoint": command(order, self._address),
            "submission_id": order.name,
            "runtime_env": {"env_vars": dict(order.env)},
            "metadata": {"ciranda.key": order.key, "ciranda.attempt": str(order.attempt)},
        }
        answer = self._call("POST", "/api/jobs/", json=body)
        if answer.is_success or self.look(order.name).state != "absent":
            return
        if answer.is_server_error:  # a head that has just begun says 500, "no available agent"
            raise self._away(f"it takes no job now: {answer.text.strip()[-300:]}")
        raise self._refused(answer, "took no job")

    def look(self, name: str) -> Seen:
        """How the job stands there."""
        answer = self._call("GET", f"/api/jobs/{quote(name)}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Seen("absent")
        told = self._json(answer)
        if told.get("status") in OPEN:
            return Seen("running", "waiting for room" if told["status"] == "PENDING" else "")
        return Seen("ended", str(told.get("message") or told.get("status"))[:500])

    def log(self, name: str) -> bytes:
        """What the job has printed so far."""
        answer = self._call("GET", f"/api/jobs/{quote(name)}/logs")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return b""
        return str(self._json(answer).get("logs") or "").encode()[-LOG_BYTES:]

    def stop(self, name: str, *, grace_s: float) -> None:
        """Have it ended; Ray gives it a few seconds of its own."""
        answer = self._call("POST", f"/api/jobs/{quote(name)}/stop")
        if not answer.is_success and answer.status_code != httpx.codes.NOT_FOUND:
            raise self._refused(answer, "stopped no job")

    def check(self) -> str:
        """Who is there. Raises Unavailable, Unauthenticated."""
        told = self._json(self._call("GET", "/api/version"))
        self._json(self._call("GET", "/api/jobs/"))
        return f"Ray {told.get('ray_version', 'of unknown version')}"

    def _call(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            answer = httpx.request(
                method, f"{self.url}{path}", headers=self._headers(), timeout=TIMEOUT_S, follow_redirects=False, **given
            )
        except httpx.HTTPError as error:
            raise self._away(f"{type(error).__name__}: {error}") from error
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise Unauthenticated(
                f"Ray does not take our token: {answer.text[:200]}", where=self.url,
                remedy="set ray_token to env:NAME or file:/path with the cluster's token (`ray get-auth-token` shows it)",
            )  # fmt: skip
        if answer.status_code in (502, 503, 504, 429):
            raise self._away(f"it answered {answer.status_code}")
        return answer

    def _headers(self) -> dict[str, str]:
        if not self._token:
            return {}
        if (word := secret(self._token)) is None:
            raise Unauthenticated(
                f"no token at {self._token}", where="setting ray_token", remedy="put the cluster's token there"
            )
        return {"authorization": f"Bearer {word}"}

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        if not answer.is_success:
            raise self._refused(answer, "did not answer")
        try:
            told = answer.json()
        except ValueError:
            raise self._refused(answer, "answered with no JSON") from None
        return told if isinstance(told, dict) else {"items": told}

    def _refused(self, answer: httpx.Response, what: str) -> Failed:
        return Failed(
            f"Ray {what}: {answer.status_code} {answer.text.strip()[-300:]}", where=self.url,
            remedy="check `ray_url`, and the head's log",
        )  # fmt: skip

    def _away(self, reason: str) -> Unavailable:
        return Unavailable(
            f"Ray does not answer: {reason}", where=self.url, remedy="start the head, or correct `ray_url`"
        )


def command(order: Order, address: Address) -> str:
    """The entry point of a job, as Ray's shell reads it."""
    found = Address(address.depot, order.place, order.attempt, address.endpoint, address.region, address.credentials)
    return shlex.join(["python", "-c", ENTRY, *found.arguments()])
