"""The control database as a file: opened by many at once, the very first time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from ciranda.store.database import Database


def test_many_open_a_new_database_at_once_and_none_is_turned_away(tmp_path: Path) -> None:
    def write(url: str) -> None:
        database = Database(url)
        with database.writing() as conn:
            conn.execute(sa.text("CREATE TABLE IF NOT EXISTS things (name TEXT)"))
        database.close()

    with ThreadPoolExecutor(16) as pool:
        for number in range(100):
            list(pool.map(write, [f"sqlite:///{tmp_path}/{number}.db"] * 16))
