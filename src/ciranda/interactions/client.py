"""The line to the store of interactions: one unmodified `clickhouse-connect` client, for the collector and for a server alike.

The collector takes a new token (and often a new port) at each start, so an address is looked up again when a call finds
nobody or is turned away, and the call made once more. A reader sees a restart of the collector as one slow answer at worst,
and a collector that is down as `Unavailable` with the remedy.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from ciranda import config
from ciranda.errors import Failed, Invalid, Unauthenticated, Unavailable

AUTHENTICATION_FAILED = 516
SECONDS_TO_CONNECT = 5
SECONDS_TO_ANSWER = 60
REMEDY = "start it with `ciranda up`, or look into logs/collector.log in the home"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Address:
    """Where the store listens: the collector with its token, or a ClickHouse with user and password in its URL."""

    url: str = field(repr=False)  # it may hold a password
    token: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """The URL without what must not be shown."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port}"


def address_of(home: config.Home) -> Address:
    """The ClickHouse of the settings, else the collector of this home.

    Raises:
        Unavailable: no collector has announced itself here.
    """
    server = config.settings(home).clickhouse_url
    return Address(server) if server else _announced(home)


def status_of(home: config.Home) -> dict[str, Any]:
    """How the collector of this home is doing: `frames`, `batches`, `last_at`, `blocked` (why, or empty), `waiting_feedback`.

    Raises:
        Unavailable: it is not up.
    """
    address = _announced(home)
    request = Request(f"{address.url}/status", headers={"X-ClickHouse-Key": address.token})  # noqa: S310 - our own file
    try:
        with urlopen(request, timeout=SECONDS_TO_CONNECT) as answer:  # noqa: S310
            status: dict[str, Any] = json.load(answer)
            return status
    except (OSError, ValueError) as error:
        raise Unavailable(f"the collector does not answer: {error}", where=address.place, remedy=REMEDY) from error


def _announced(home: config.Home) -> Address:
    file = home.run / "collector.json"
    try:
        known = json.loads(file.read_text())
        return Address(known["url"], known["token"])
    except FileNotFoundError:
        raise Unavailable("the collector is not running", where=str(file), remedy=REMEDY) from None
    except (ValueError, KeyError, TypeError):
        raise Unavailable("the collector's address cannot be read", where=str(file), remedy=REMEDY) from None


def connect(address: Address) -> Any:
    """An unmodified clickhouse-connect client. Its pool is its own, so closing it frees the sockets.

    Raises:
        Invalid: the URL names no host.
    """
    import clickhouse_connect

    parts = urlsplit(address.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(
            f"{parts.scheme or 'no scheme'}:// is no address of a ClickHouse",
            where="setting clickhouse_url",
            remedy="write http://user:password@host:8123/database",
        )
    return clickhouse_connect.get_client(
        host=parts.hostname,
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        secure=parts.scheme == "https",
        username="ciranda" if address.token else unquote(parts.username or "default"),
        password=address.token or unquote(parts.password or ""),
        database=parts.path.strip("/") or "__default__",
        compress=not address.token,  # on loopback it costs more than it saves
        connect_timeout=SECONDS_TO_CONNECT,
        send_receive_timeout=SECONDS_TO_ANSWER,
        autogenerate_session_id=False,  # a session would forbid queries at the same time
        query_retries=0,
    )


class Line:
    """A connection made at first use, and again after the other end has moved. Safe to share between threads."""

    def __init__(self, find: Callable[[], Address]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._client: Any = None
        self._address = Address("")

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run one SELECT. Values go as bound parameters, `{name:Type}` in the text, never into the text."""
        return self._do(lambda client: list(client.query(sql, parameters=dict(parameters or {})).named_results()))

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, token: str) -> None:
        """Insert rows; the same token is stored once, in the roll-ups too."""
        settings = {"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1}
        self._do(lambda client: client.insert(table, rows, column_names=list(columns), settings=settings))

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _do(self, call: Callable[[Any], Result]) -> Result:
        try:
            return self._attempt(call)
        except (Unavailable, Unauthenticated):
            self.close()  # it may have moved
        return self._attempt(call)

    def _attempt(self, call: Callable[[Any], Result]) -> Result:
        from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

        try:
            return call(self._connected())
        except OperationalError as error:
            raise Unavailable(f"the store of interactions does not answer: {_first_line(error)}",
                              where=self._address.place, remedy=REMEDY) from error  # fmt: skip
        except DatabaseError as error:
            if error.code == AUTHENTICATION_FAILED:
                raise Unauthenticated("the store of interactions refused the token", where=self._address.place,
                                      remedy="read run/collector.json of the running home again") from error  # fmt: skip
            raise Failed(f"the store of interactions refused the query: {_first_line(error)}",
                         where=self._address.place, remedy="look into logs/collector.log in the home") from error  # fmt: skip

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._address = self._find()
                self._client = connect(self._address)
            return self._client


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:500]
