"""Identifiers: sorted by time, never given twice, also not by two threads or by a process and its child."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from ciranda.store import clock, ids


def test_the_quick_text_is_a_uuid7_of_now() -> None:
    before = clock.now_ms()
    made = [ids.text7() for _ in range(1000)]
    assert {uuid.UUID(one).version for one in made} == {7}
    assert {uuid.UUID(one).variant for one in made} == {uuid.RFC_4122}
    assert all(before <= ids.time_of(one).timestamp() * 1000 + 1 <= clock.now_ms() + 1 for one in made)
    assert made[0][:8] <= made[-1][:8]


def test_threads_never_get_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        lots = list(pool.map(lambda _: [ids.text7() for _ in range(2000)], range(8)))
    assert len({one for lot in lots for one in lot}) == 16_000


def test_a_child_does_not_go_on_with_the_bits_of_its_parent() -> None:
    ids.text7()
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(write, ids.text7().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 36).decode()[19:] != ids.text7()[19:]
