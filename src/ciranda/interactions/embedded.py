"""Questions and scores from outside, put to the embedded engine: what a request may do there, and no more.

Each request gets a handle of its own (0.4 ms), its settings, then the bounds, then `readonly = 1`, which the engine does not
take back: no write, no table function that reaches files or addresses. What the engine would do on the client's side
(`INTO OUTFILE`, several statements) is refused here by the text. Only scores may be inserted.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from ciranda.interactions.table import SCORE_STORED

AT_ONCE = 4
BOUNDS = (
    "max_execution_time = 30, max_memory_usage = 1200000000, max_result_bytes = 536870912, "
    "result_overflow_mode = 'throw', max_threads = 2"
)
READS = re.compile(r"\s*(?:\(\s*)*(select|with|show|describe|desc|explain|exists)\b", re.IGNORECASE)
INSERTS = re.compile(
    r"\s*INSERT\s+INTO\s+`?(?P<table>\w+)`?\s*\((?P<columns>[\w\s,`]+)\)\s*FORMAT\s+(?P<format>\w+)[ \t]*\r?\n?",
    re.IGNORECASE,
)
SETTINGS_ASKED = re.compile(r"\s*SELECT [\w, ]+ FROM system\.settings[\w\s]*", re.IGNORECASE)
CLIENT_SIDE = re.compile(r"\b(outfile|infile)\b", re.IGNORECASE)
SECOND = re.compile(r";\s*\S")
NAME = re.compile(r"[a-z][a-z0-9_]*")
CODE = re.compile(r"Code: (\d+)\.")


class Refusal(Exception):
    """An answer in the manner of ClickHouse, its code and its words; it never leaves the door as an error of ours."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message}")
        self.code = code


class Engine:
    """The embedded engine as requests see it.

    Args:
        connection: The name that every handle of this process opens the engine by.
    """

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self._turns = threading.Semaphore(AT_ONCE)

    def select(self, sql: str, *, parameters: Mapping[str, str], settings: Mapping[str, str], format_: str) -> bytes:
        """Run one reading statement.

        Raises:
            Refusal: the statement is none that reads, or the engine said no.
        """
        _allow(sql)
        with self._turns:
            return self._run(sql, parameters=parameters, settings=settings, format_=format_)

    def insert(self, statement: re.Match[str], body: bytes, *, settings: Mapping[str, str]) -> int:
        """Insert scores in any format of the engine; says how many rows were written.

        Raises:
            Refusal: another table or column, or the engine said no.
        """
        columns = [name.strip(" `\t\r\n") for name in statement["columns"].split(",")]
        if statement["table"] != "scores" or not set(columns) <= set(SCORE_STORED):
            raise Refusal(497, "only scores are inserted here; interactions and feedback come through the spool")
        with self._turns:
            handle = self._handle(settings)
            try:
                writer = handle.send_insert(f"INSERT INTO scores ({', '.join(columns)})", statement["format"])
                writer.append(body)
                return int(writer.finish().rows_written)
            except RuntimeError as error:
                raise _refusal(error) from error
            finally:
                handle.close()

    def _run(self, sql: str, *, parameters: Mapping[str, str], settings: Mapping[str, str], format_: str) -> bytes:
        handle = self._handle(settings)
        try:
            # under `readonly = 1` that table says of every setting that it cannot be set, and the client believes it
            handle.query(f"SET {BOUNDS}, readonly = {2 if SETTINGS_ASKED.fullmatch(sql) else 1}", "TabSeparated")
            return bytes(handle.query(sql, format_, params=dict(parameters)).bytes() or b"")
        except RuntimeError as error:
            raise _refusal(error) from error
        finally:
            handle.close()

    def _handle(self, settings: Mapping[str, str]) -> Any:
        import chdb

        handle = chdb.connect(self._connection)
        try:
            for name, value in settings.items():
                handle.query(f"SET {_name(name)} = {_quoted(value)}", "TabSeparated")
        except (RuntimeError, Refusal) as error:
            handle.close()
            raise _refusal(error) from error
        return handle


def _allow(sql: str) -> None:
    if not READS.match(sql):
        raise Refusal(164, "only statements that read are answered here: SELECT, WITH, SHOW, DESCRIBE, EXPLAIN, EXISTS")
    if CLIENT_SIDE.search(sql) or SECOND.search(sql):
        raise Refusal(164, "one statement at a time, without files; bind values as {name:Type} instead of writing them")


def _name(setting: str) -> str:
    if not NAME.fullmatch(setting):
        raise Refusal(115, f"unknown setting {setting[:60]!r}")
    return setting


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    text = str(error).strip()
    code = CODE.search(text)
    return Refusal(int(code[1]) if code else 1001, text[text.find("DB::Exception:") + 14 :].strip() if code else text)
