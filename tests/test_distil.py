"""A teacher's answers become rows: of a version of ours, or of whoever speaks the API at an address."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ciranda import loop
from ciranda.config import Home
from ciranda.config.model import FAKE, ModelSpec
from ciranda.data import versions as datasets
from ciranda.data.rows import Row
from ciranda.deploy import rollout
from ciranda.errors import Invalid, NotFound, Refused
from ciranda.loop import Platform, chores, distil
from ciranda.registry import models, versions

ASKED = "".join(json.dumps({"prompt": f"question {n}", "system": "Be brief."}) + "\n" for n in range(12))


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A home with one model, `big`, whose live version is the parrot without lessons."""
    home = Home(tmp_path / ".ciranda")
    home.make()
    (home.path / "config.toml").write_text('allow_hosts = "localhost"\n')
    opened = loop.open(home)
    with opened.db.writing() as conn:
        models.put(conn, ModelSpec.model_validate({"model": "big", "serve": {"engine": "fake"}}), actor="test")
    base = versions.register_base(opened.db, home, model="big", base=FAKE, base_digest="sha256:parrot", actor="test")
    with opened.db.writing() as conn:
        rollout.promote(conn, base.ref, actor="test", reason="the first")
    yield opened
    opened.close()


def learnt(platform: Platform, who: distil.Teacher, **more: Any) -> dict[str, Any]:
    """What a distillation into `small` came to."""
    values = {
        "teacher": {"name": who.name, "url": who.url, "key": who.key, "digest": who.digest}, "prompts": ASKED, "rows": "",
        "dataset": "small", "max_tokens": 64, "temperature": 0.0, "abreast": 2, "role": "admin", "key_id": "k", "tenant": "",
    } | more  # fmt: skip
    key = chores.begin(platform, "distil", values, subject="small", actor="ana")
    until = time.monotonic() + 60
    while (told := chores.told(platform, key))["state"] not in ("succeeded", "failed"):
        assert time.monotonic() < until, told
        time.sleep(0.05)
    return told


def test_a_version_of_ours_teaches_and_what_it_said_is_not_asked_again(platform: Platform) -> None:
    who = distil.teacher(platform, "big")
    assert who.name == "big@0", "a model's name means its live version"
    told = learnt(platform, who)
    assert told["error"] is None
    assert (told["result"]["dataset"], told["result"]["asked"], told["result"]["refused"]) == ("small@1", 12, 0)
    rows = list(datasets.read(platform.home, "small@1"))
    assert {row.messages[0].content for row in rows} == {"Be brief."}
    assert {json.loads(row.completion)["text"] for row in rows} == {f"question {n}" for n in range(12)}
    assert {row.source for row in rows} == {"teacher: big@0"}
    made = datasets.get(platform.db, "small@1").transformation
    assert (made["kind"], made["teacher"], made["teacher_digest"]) == ("distil", "big@0", who.digest)

    # Of what it said already nothing is asked again; new prompts come beside the old rows, here from another dataset.
    (kept,) = (platform.home.jobs / "rows").glob("answers-*.jsonl")
    kept.write_text(kept.read_text().replace("question 3", "question 3, as it was kept"))
    faq = [Row.of(f"question {n}", "?", system="Be brief.") for n in (3, 99)]
    datasets.commit(platform.db, platform.home, "faq", faq, transformation={}, actor="test")
    told = learnt(platform, who, prompts="", rows="faq@1")
    said = {row.prompt: row.completion for row in datasets.read(platform.home, told["result"]["dataset"])}
    assert "question 99" in said["question 99"]
    assert any("as it was kept" in row.completion for row in datasets.read(platform.home, told["result"]["dataset"]))


def test_a_teacher_elsewhere_is_asked_with_its_key_and_a_refused_prompt_makes_no_row(
    platform: Platform, tmp_path: Path
) -> None:
    with elsewhere(tmp_path) as url:
        who = distil.teacher(platform, "grand", url=f"{url}/v1", key=f"file:{tmp_path / 'key'}")
        told = learnt(platform, who, prompts=ASKED + '{"prompt": "nothing, please"}\n')
        assert told["error"] is None
        assert (told["result"]["asked"], told["result"]["refused"]) == (13, 1)
        assert "it said nothing" in told["result"]["refusals"][0]
        assert told["result"]["rows"] == 12
    told = learnt(platform, who, prompts='{"prompt": "something new"}\n')
    assert told["state"] == "failed"
    assert "what it said so far is kept" in told["error"]["remedy"]


def test_who_and_what_is_wrong_is_said_before_anything_is_asked(platform: Platform) -> None:
    with pytest.raises(NotFound, match="no teacher 'big@7'"):
        distil.teacher(platform, "big@7")
    with pytest.raises(Refused, match=r"private address"):
        distil.teacher(platform, "grand", url="http://127.0.0.1:9/v1")
    with pytest.raises(Invalid, match="no address"):
        distil.teacher(platform, "grand", url="ftp://host")
    with pytest.raises(Invalid) as caught:
        distil.prompts('{"prompt": "one"}\n{"text": "two"}\n')
    assert caught.value.where == "prompts:2"


@contextmanager
def elsewhere(folder: Path) -> Iterator[str]:
    """Somebody who speaks the API and wants a key."""
    (folder / "key").write_text("grand-secret")
    (folder / "answers.json").write_text(json.dumps({"nothing, please": ""}))
    argv = [sys.executable, "-m", "ciranda.engines.fake", "--name", "grand", "--port", "0", "--ready-file",
            str(folder / "ready.json"), "--key-file", str(folder / "key"), "--answers", str(folder / "answers.json")]  # fmt: skip
    process = subprocess.Popen(argv)
    try:
        until = time.monotonic() + 30
        while not (folder / "ready.json").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        url = json.loads((folder / "ready.json").read_text())["url"]
        yield url.replace("127.0.0.1", "localhost")
    finally:
        process.kill()
        process.wait()
