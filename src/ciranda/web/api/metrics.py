"""`/metrics` of control: the figures of the whole home, as Prometheus reads them (`monitor.scrape`).

Open to this machine itself, for a scraper beside us, as at the gateway; from elsewhere, or through a proxy, with a key that may
view all models.
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from ciranda.errors import CirandaError, Forbidden, Unauthenticated
from ciranda.govern import access
from ciranda.loop.platform import Platform
from ciranda.monitor.exposition import TYPE
from ciranda.monitor.scrape import Scrape
from ciranda.store import ids
from ciranda.web.api.door import problem

FORWARDED = ("x-forwarded-for", "forwarded")


class Metrics:
    """The endpoint of one home."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._scrape = Scrape(platform.home, platform.db, platform.interactions)

    async def __call__(self, request: Request) -> Response:
        """Answer one scrape."""
        try:
            return Response(await run_in_threadpool(self._text, request), headers={"content-type": TYPE})
        except CirandaError as error:
            return problem(error, request.scope.get("request_id") or ids.new("req"))

    def _text(self, request: Request) -> str:
        if not _beside(request):
            self._admit(request)
        return self._scrape.text()

    def _admit(self, request: Request) -> None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(
                "no key was sent", where="Authorization: Bearer …",
                remedy="give Prometheus a key of the role viewer (`authorization: {credentials_file: …}`)",
            )  # fmt: skip
        principal = access.check(self._platform.db, secret.strip())
        access.require(principal, "view")
        if "*" not in principal.models:
            raise Forbidden(f"key {principal.name!r} sees some models only", where="models of this key",
                            remedy="ask an admin for a key of the role viewer for all models")  # fmt: skip


def _beside(request: Request) -> bool:
    """Whether it comes from this machine, and not through a proxy on it."""
    if any(name in request.headers for name in FORWARDED) or request.client is None:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
