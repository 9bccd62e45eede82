"""A store of interactions that is full already: rows made by the engine itself, as many as wanted, in minutes.

    python bench/filled.py FOLDER [--rows 10000000]

What a record is stays as in `interactions.Traffic` (twelve models of unlike weight, five versions each, 20,000 users, 1 % failures,
5 % votes, some 3 KB of request and answer), spread over thirty days until now, each row with a rare word of its own (a ticket of
one in 100,000) beside the common ones. The tables, the indexes and the roll-ups are the product's: rows come in by INSERT, so
the views count them. Only the way through the spool is left out, which the burst measures. The folder becomes a home.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ciranda import config
from ciranda.interactions.sink import Sink
from ciranda.interactions.upgrade import TABLES
from ciranda.store import clock

DAYS, DAY_MS = 30, 86_400_000
AT_ONCE = 100_000
SYLLABLES = (("lam", "por", "ti", "so", "ve"), ("pa", "ta", "ne", "ri"), ("", "s", "do", "r"))
WORDS = ["".join(parts) for parts in itertools.product(*SYLLABLES)]
LANGUAGES = ["en", "en", "en", "en", "en", "pt", "pt", "es", "de", ""]


def _words(count: int, salt: int) -> str:
    return f"arrayStringConcat(arrayMap(n -> words[1 + cityHash64(number, n, {salt}) % {len(WORDS)}], range({count})), ' ')"


def _uuid(salt: int) -> str:
    """UUIDv7 of a row's moment."""
    bits = f"lower(hex(cityHash64(number, {salt})))"
    rest = f"leftPad(lower(hex(sipHash64(number, {salt}))), 16, '0')"
    return (f"concat(substring(moment, 1, 8), '-', substring(moment, 9, 4), '-7', substring(leftPad({bits}, 16, '0'), 1, 3),"
            f" '-a', substring({rest}, 1, 3), '-', substring({rest}, 4, 12))")  # fmt: skip


_COMMON = f"""
WITH {WORDS} AS words, {LANGUAGES} AS tongues,
    {{first}} + intDiv(toInt64(number) * {{span}}, {{rows}}) AS ms,
    lower(leftPad(hex(toUInt64(ms)), 12, '0')) AS moment,
    cityHash64(number, 1) AS a, cityHash64(number, 2) AS b,
    concat('model-', toString(toUInt32(1 / (1 - (a % 100000) / 100000.)) % 12)) AS of_model,
    concat(of_model, '@', toString(1 + b % 5)) AS of_version,
    a % 97 = 0 AS failed"""
_ROWS = f"""
INSERT INTO interactions (id, ts, sequence, tenant, key, user, model, version, arm, engine, endpoint, status, error,
    finish_reason, latency_ms, first_byte_ms, overhead_ms, prompt_tokens, completion_tokens, request_id, language,
    request, response, input_text, output_text)
{_COMMON},
    concat({_words(40, 5)}, ' ticket', toString(b % 100000)) AS question, {_words(180, 6)} AS answer
SELECT {_uuid(0)} AS identifier, fromUnixTimestamp64Milli(ms, 'UTC'), number + 1, 'default', 'key_1',
    concat('user', toString(toUInt32(1 / (0.00005 + (b % 1000003) / 1000003.)))),
    of_model, of_version, 'live', 'llamacpp', '/v1/chat/completions', if(failed, 503, 200), if(failed, 'upstream_error', ''),
    'stop', exp(6 + 0.5 * ((a % 1009) / 300. - 1.68)), exp(4 + 0.4 * ((b % 1013) / 300. - 1.68)), 0.3 + (a % 499) / 499.,
    20 + a % 880, 5 + b % 295, concat('req_', identifier), tongues[1 + b % {len(LANGUAGES)}],
    concat('{{{{"model": "', of_model, '", "messages": [{{{{"role": "system", "content": "', {_words(150, 7)},
        '"}}}}, {{{{"role": "user", "content": "', question, '"}}}}]}}}}'),
    concat('{{{{"choices": [{{{{"index": 0, "message": {{{{"role": "assistant", "content": "', answer,
        '"}}}}, "finish_reason": "stop"}}}}]}}}}'),
    question, answer
FROM numbers({{start}}, {{count}})
SETTINGS max_insert_block_size = {AT_ONCE // 2}, max_block_size = {AT_ONCE // 2}, max_threads = 2, max_insert_threads = 2"""
_VOTES = f"""
INSERT INTO feedback (id, ts, sequence, interaction, interaction_ts, tenant, key, model, version, arm, thumb,
    thumbs_up, thumbs_down)
{_COMMON}
SELECT {_uuid(9)}, fromUnixTimestamp64Milli(ms, 'UTC') AS at, number + 1, {_uuid(0)}, at, 'default', 'key_1', of_model, of_version,
    'live', if(b % 4 = 0, -1, 1) AS voted, voted > 0, voted < 0
FROM numbers({{start}}, {{count}}) WHERE a % 20 = 7"""


def fill(home: config.Home, rows: int) -> float:
    """Fill the embedded tables of a home that nobody serves; gives the seconds that it took."""
    store, begun = Sink.embedded(home.interactions / "chdb"), time.monotonic()
    span = DAYS * DAY_MS
    first = clock.now_ms() - span
    try:
        _synced(store, 0)
        for start in range(0, rows, AT_ONCE):
            values = {"first": first, "span": span, "rows": rows, "start": start, "count": min(AT_ONCE, rows - start)}
            for statement in (_ROWS, _VOTES):
                store.run(statement.format(**values))
            if start % 1_000_000 == 0:
                print(f"{start:,} rows after {time.monotonic() - begun:.0f} s", flush=True)
        _synced(store, 1)
    finally:
        store.close()
    progress = {"sequence": rows + 1, "reached": {}, "waiting": [], "batch": None}
    (home.interactions / "progress.json").write_text(json.dumps(progress))
    return time.monotonic() - begun


def _synced(store: Sink, on: int) -> None:
    """Rows that can be made again need not wait for the disk, some fifty files at a time; those that follow do."""
    for table in TABLES:
        store.run(f"ALTER TABLE {table.name} MODIFY SETTING fsync_after_insert = {on}, fsync_part_directory = {on}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="becomes a home")
    parser.add_argument("--rows", type=int, default=10_000_000, help="how many interactions")
    options = parser.parse_args()
    home = config.Home(options.folder)
    home.make()
    print(f"{options.rows:,} rows in {fill(home, options.rows):.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
