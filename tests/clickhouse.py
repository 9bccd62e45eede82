"""A ClickHouse to test against: the one that `CLICKHOUSE_URL` names, else the embedded engine behind a door that allows everything.

Either way an unmodified client speaks HTTP to it, and each world gets a database of its own.
"""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect

from ciranda.interactions.embedded import Engine
from ciranda.interactions.server import Door
from ciranda.interactions.sink import connection

GIVEN = os.environ.get("CLICKHOUSE_URL", "")


class Server(Engine):
    """ClickHouse as its owner sees it: every statement is run."""

    def select(self, sql: str, *, parameters: Mapping[str, str], settings: Mapping[str, str], format_: str) -> bytes:
        handle = self._handle(settings)
        try:
            return bytes(handle.query(sql, format_, params=dict(parameters)).bytes() or b"")
        finally:
            handle.close()

    def insert(self, statement: re.Match[str], body: bytes, *, settings: Mapping[str, str]) -> int:
        handle = self._handle(settings)
        try:
            writer = handle.send_insert(
                f"INSERT INTO {statement['table']} ({statement['columns']})", statement["format"]
            )
            writer.append(body)
            return int(writer.finish().rows_written)
        finally:
            handle.close()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of a database that nobody has used."""
    if GIVEN:
        with _database(GIVEN) as url:
            yield url
    else:
        with standing(folder) as url:
            yield url


@contextmanager
def standing(folder: Path) -> Iterator[str]:
    """The embedded engine as a server; its password is `secret`."""
    import chdb

    owner = chdb.connect(connection(folder))  # keeps the engine open between requests
    door = Door(Server(connection(folder)), token="secret", status=dict)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    try:
        yield f"http://default:secret@127.0.0.1:{door.server_address[1]}"
    finally:
        door.shutdown()
        door.server_close()
        owner.close()


@contextmanager
def _database(given: str) -> Iterator[str]:
    parts = urlsplit(given)
    client = clickhouse_connect.get_client(
        host=parts.hostname, port=parts.port or 8123, username=parts.username or "default", password=parts.password or "",
        secure=parts.scheme == "https",
    )  # fmt: skip
    name = f"ciranda_{uuid.uuid4().hex[:12]}"
    client.command(f"CREATE DATABASE {name}")
    try:
        yield f"{given.rstrip('/')}/{name}"
    finally:
        client.command(f"DROP DATABASE {name}")
        client.close()
