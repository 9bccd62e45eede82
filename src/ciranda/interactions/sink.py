"""Where rows are stored: the embedded engine (chDB) in this process, or a ClickHouse server; one client, one SQL for both.

An insert goes as one Arrow block, so it becomes one part: seen whole or not at all. Its token makes a repeated one harmless,
in the table and in the roll-ups fed from it. It refuses to guess: an insert either returned, and is on disk, or raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ciranda.errors import CirandaError, Failed, StorageFull, Unavailable
from ciranda.interactions.client import Address, connect
from ciranda.interactions.rows import Row
from ciranda.interactions.schema import MOMENT, RECORDS, Column, Table
from ciranda.interactions.upgrade import ALONE, Layout, prepare

ENGINE_OPTIONS = {
    "max_server_memory_usage": 2_000_000_000,  # the whole machine without it
    "mark_cache_size": 134_217_728,  # 5 GB without it
    "background_pool_size": 2,
}
ARROW = {
    "UInt8": "uint8", "UInt16": "uint16", "UInt32": "uint32", "UInt64": "uint64", "Int8": "int8",
    "Float32": "float32", "Float64": "float64",
}  # fmt: skip
TABLES = {table.name: table for table in RECORDS}
FULL = (243, 252, 731)  # NOT_ENOUGH_SPACE, TOO_MANY_PARTS, and a quota on temporary data
NO_SPACE = "No space left on device"


def connection(folder: Path) -> str:
    """The name by which every handle of this process opens the embedded engine: it must be the same to the letter."""
    options = "&".join(f"{name}={value}" for name, value in ENGINE_OPTIONS.items())
    return f"{folder.resolve()}?{options}"


class Sink:
    """The tables, ready to be inserted into.

    Args:
        client: A clickhouse-connect client, of the embedded engine or of a server.
        layout: How tables are kept there.

    Raises:
        Conflict: a newer Ciranda made these tables.
    """

    def __init__(self, client: Any, layout: Layout = ALONE) -> None:
        self._client = client
        try:
            prepare(self.run, lambda sql: self.rows(sql, {}), layout)
        except CirandaError:
            client.close()
            raise

    @classmethod
    def embedded(cls, folder: Path) -> Sink:
        """The engine in this process; one process per folder."""
        import clickhouse_connect

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = str(folder.resolve())
        return cls(clickhouse_connect.get_client(interface="chdb", path=path, chdb_options=ENGINE_OPTIONS))

    @classmethod
    def server(cls, url: str, layout: Layout = ALONE) -> Sink:
        """A ClickHouse elsewhere. Raises Unavailable while it does not answer."""
        from clickhouse_connect.driver.exceptions import OperationalError

        address = Address(url)
        try:
            return cls(connect(address), layout)
        except OperationalError as error:
            raise Unavailable(f"ClickHouse does not answer: {error}", where=address.place,
                              remedy="start it, or correct the setting clickhouse_url") from error  # fmt: skip

    def rows(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run one SELECT with bound values."""
        from clickhouse_connect.driver.exceptions import Error

        try:
            return list(self._client.query(sql, parameters=dict(parameters)).named_results())
        except Error as error:
            raise _refusal("read", error) from error

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run one statement that changes something, with bound values.

        Raises:
            StorageFull: the disk is full.
            Failed: anything else.
        """
        from clickhouse_connect.driver.exceptions import Error

        try:
            self._client.command(sql, parameters=dict(parameters or {}))
        except Error as error:
            raise _refusal("change the tables", error) from error

    def insert(self, table: str, rows: Sequence[Row], *, token: str) -> None:
        """Store rows of one day in one block; when this returns they are on disk.

        Raises:
            StorageFull: the disk is full.
            Failed: anything else; the same call may be made again.
        """
        from clickhouse_connect.driver.exceptions import Error

        shape = TABLES[table]
        settings = {"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1}
        try:
            self._client.raw_insert(table, list(shape.names), _block(shape, rows), fmt="Arrow", settings=settings)
        except (Error, OSError) as error:
            raise _refusal(f"store {len(rows)} rows of {table}", error) from error

    def close(self) -> None:
        """Leave the engine; the folder may be opened by another process then."""
        self._client.close()


def _refusal(action: str, error: Exception) -> CirandaError:
    what = f"cannot {action}: {str(error).strip()[:500]}"
    if NO_SPACE in str(error) or getattr(error, "code", None) in FULL:
        return StorageFull(
            what, where="the store of interactions", remedy="free space; what waits in the spool follows"
        )
    return Failed(what, where="the store of interactions", remedy="see the reason above; it is tried again")


def _block(table: Table, rows: Sequence[Row]) -> bytes:
    """The rows as one Arrow file. Texts go as bytes: bodies are whatever came, and need not be UTF-8."""
    import pyarrow as pa

    keyed = [(column.key, _type(column)) for column in table.given]
    arrays = [pa.array([row[key] for row in rows], type=type_) for key, type_ in keyed]
    block = pa.table(arrays, names=list(table.names))
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_file(buffer, block.schema) as file:
        file.write_table(block)
    return bytes(buffer.getvalue())


def _type(column: Column) -> Any:
    import pyarrow as pa

    if column.type == MOMENT:
        return pa.timestamp("ms", tz="UTC")
    if column.type == "Array(String)":
        return pa.list_(pa.string())
    return getattr(pa, ARROW[column.type])() if column.type in ARROW else pa.large_binary()
