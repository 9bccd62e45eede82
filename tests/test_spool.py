"""The spool holds what it accepted: through kill -9, a torn tail, a full disk, and a reader beside the writer."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciranda.errors import Invalid, StorageFull
from ciranda.interactions import spool
from ciranda.interactions.spool import FEEDBACK, INTERACTION, SpoolWriter, adopt, read_frames

records = st.lists(
    st.tuples(st.integers(1, 5), st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300)), max_size=8
)


def segments(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(INTERACTION, {"id": "a", "status": 200}, b'{"messages":[]}', b'{"choices":[]}')
    writer.append(FEEDBACK, b'{"thumb":1}')
    (path,) = segments(tmp_path, ".open")
    first, second = read_frames(path)
    assert first.kind == INTERACTION
    assert first.fields() == {"id": "a", "status": 200}
    assert (first.request, first.response) == (b'{"messages":[]}', b'{"choices":[]}')
    assert (second.kind, second.meta, second.request, second.response) == (FEEDBACK, b'{"thumb":1}', b"", b"")
    assert second.end_offset == path.stat().st_size


def test_a_reader_follows_a_growing_segment_by_offset(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(INTERACTION, {"n": 1})
    (path,) = segments(tmp_path, ".open")
    (first,) = read_frames(path)
    writer.append(INTERACTION, {"n": 2})
    (second,) = read_frames(path, first.end_offset)
    assert second.fields() == {"n": 2}
    assert list(read_frames(path, second.end_offset)) == []


@settings(max_examples=60, deadline=None)
@given(records=records, cut=st.integers(0, 400), flip=st.integers(0, 10_000))
def test_a_damaged_tail_costs_the_damaged_records_only(
    records: list[tuple[int, bytes, bytes, bytes]], cut: int, flip: int
) -> None:
    """Whatever is cut off or flipped, the reader gives a prefix of what was written, and never a changed record."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "segment")
        whole = b"".join(b"".join(spool.pack(*record)) for record in records)
        damaged = bytearray(whole[: max(0, len(whole) - cut)])
        if damaged and flip % 2:
            damaged[flip % len(damaged)] ^= 0x40
        path.write_bytes(damaged)
        read = [(f.kind, f.meta, f.request, f.response) for f in read_frames(path)]
        assert [r[1:] for r in read] == [r[1:] for r in records[: len(read)]]
        if cut == 0 and not flip % 2:
            assert read == records


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_at_all_end_the_reading_quietly(noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "segment")
        path.write_bytes(noise)
        list(read_frames(path))


def test_a_segment_is_sealed_at_its_size_and_when_idle(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, segment_bytes=100)
    writer.append(INTERACTION, {"id": "x" * 200})
    assert len(segments(tmp_path, ".ready")) == 1
    writer.append(INTERACTION, {"id": "y"})
    writer.seal_if_idle(60)
    assert len(segments(tmp_path, ".open")) == 1
    writer.seal_if_idle(0)
    assert (len(segments(tmp_path, ".open")), len(segments(tmp_path, ".ready"))) == (0, 2)


def test_two_writers_of_one_folder_never_share_a_segment(tmp_path: Path) -> None:
    one, two = SpoolWriter(tmp_path), SpoolWriter(tmp_path)
    one.append(INTERACTION, {"writer": 1})
    two.append(INTERACTION, {"writer": 2})
    assert sorted(next(iter(read_frames(path))).fields()["writer"] for path in segments(tmp_path, ".open")) == [1, 2]


def test_a_living_writers_segment_is_not_adopted(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(INTERACTION, {"id": "a"})
    (path,) = segments(tmp_path, ".open")
    assert adopt(path) is None
    assert path.exists()


WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from ciranda.interactions.spool import INTERACTION, SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]))
for n in range(50):
    writer.append(INTERACTION, {"n": n}, b"q" * 100, b"a" * 100)
os.write(writer._descriptor, b"half a fra")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_loses_no_record_and_its_orphan_is_adopted_once(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(tmp_path)], env=child_environment(), check=False)
    assert ended.returncode == -signal.SIGKILL
    (orphan,) = segments(tmp_path, ".open")
    sealed = adopt(orphan)
    assert sealed is not None
    assert sealed.suffix == ".ready"
    assert [frame.fields()["n"] for frame in read_frames(sealed)] == list(range(50))
    assert spool.sound_length(sealed) == sealed.stat().st_size
    assert adopt(orphan) is None


def test_a_name_that_never_became_visible_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / "host-00000000-1-00000001.new"
    left.touch()
    assert adopt(left) is None
    assert not left.exists()


@pytest.fixture
def small_files():
    """No file of this process may grow over 4,000 bytes: to a writer this is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_said_and_leaves_no_half_record(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    while writer.records < 5:
        writer.append(INTERACTION, {"n": writer.records}, b"q" * 600)
    with pytest.raises(StorageFull, match="cannot be recorded"):
        writer.append(INTERACTION, {"n": "too much"}, b"q" * 2000)
    (path,) = segments(tmp_path, ".open")
    assert [frame.fields()["n"] for frame in read_frames(path)] == list(range(5))
    assert spool.sound_length(path) == path.stat().st_size
    writer.append(INTERACTION, {"n": "a small one still fits"})
    assert len(list(read_frames(path))) == 6


@pytest.mark.usefixtures("small_files")
def test_of_many_records_those_that_fit_stay_and_the_rest_is_not_there(tmp_path: Path) -> None:
    """A reader beside the writer may have seen the whole ones already, so they are never taken back."""
    writer = SpoolWriter(tmp_path)
    frames = [spool.pack(INTERACTION, b'{"n":%d}' % n, b"q" * 900) for n in range(6)]
    assert writer.append_all(frames) == 4
    (path,) = segments(tmp_path, ".open")
    assert [frame.fields()["n"] for frame in read_frames(path)] == [0, 1, 2, 3]
    assert spool.sound_length(path) == path.stat().st_size
    writer.append(INTERACTION, {"n": "a small one still fits"})
    assert len(list(read_frames(path))) == 5


def test_more_records_than_a_system_takes_in_one_write(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    assert writer.append_all([spool.pack(FEEDBACK, b'{"n":%d}' % n, b"q", b"a") for n in range(1000)]) == 1000
    (path,) = segments(tmp_path, ".open")
    assert [frame.fields()["n"] for frame in read_frames(path)] == list(range(1000))


def test_a_record_over_the_bound_is_refused_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(Invalid, match="frame bound"):
        SpoolWriter(tmp_path).append(INTERACTION, {}, b"x" * 2000)
    assert list(tmp_path.iterdir()) == []


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
