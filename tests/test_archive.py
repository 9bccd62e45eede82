"""Versions prove themselves: signed manifests, cards, bills of materials; archives go out and come in, hostile ones do not."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ciranda import loop
from ciranda.config import Settings
from ciranda.deploy import rollout
from ciranda.errors import CirandaError, Conflict, Invalid, Refused, TooLarge
from ciranda.evals import suites
from ciranda.evals.suites import Answer, Evaluation
from ciranda.govern import audit, signatures
from ciranda.loop import archives
from ciranda.registry import aliases, archive, bom, card, folders, history, models, removal, verdicts, versions
from ciranda.registry.gates import Verdict
from ciranda.registry.versions import Version
from ciranda.store import clock, files
from registry_world import MODEL, World
from test_api import prepared


class House:
    """A home with one model on the base `tiny`, and a platform over it."""

    def __init__(self, path: Path, **spec: Any) -> None:
        self.world = World(path, base="tiny", serve={"engine": "fake"}, **spec)
        self.platform = loop.Platform(self.world.home, Settings(), self.world.db)
        prepared(self, "tiny")  # type: ignore[arg-type]
        prepared(self, "fake")  # type: ignore[arg-type]
        self.signer = signatures.signer(self.world.home).fingerprint

    def out(self, version: Version) -> Path:
        return archives.take(self.platform, version.ref, "ana")[0]

    def bring(self, file: Path, *, signer: str = "") -> Version:
        return archives.bring(self.platform, MODEL, file, signer=signer, actor="bo")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "here", purpose="Turns what people say into JSON.")
    yield house
    house.world.db.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "there")
    yield house
    house.world.db.close()


def evaluated(house: House, version: Version) -> Version:
    """With figures by language, as an exam records them."""
    answers = [
        Answer(f"c{n}", "?", "!", "!", {"exact_match": float(n % 3 > 0)}, {"language": ("en", "pt")[n % 2]}, 0.1)
        for n in range(60)
    ]
    found = Evaluation("test", "sha256:" + "5" * 64, tuple(answers))
    with house.world.db.writing() as conn:
        report = suites.save(house.world.home, found)
        suites.record(conn, found, model=MODEL, version=version.ref, report=report, actor="loop")
        figures = {name: one.to_dict() for name, one in found.metrics.items()}
        verdicts.record(conn, version.ref, Verdict("pass", ()), champion=f"{MODEL}@0", actor="loop")
        return versions.evaluated(conn, house.world.home, version.ref, {"test": figures}, actor="loop")


# --- signatures -------------------------------------------------------------------------------------------------------


def test_a_manifest_is_signed_and_openssl_says_so_too(house: House) -> None:
    folder = Path(house.world.register(1).folder)
    assert folders.verify(folder, signer=house.signer) == []
    public = folder.parent / "key.pem"
    public.write_text(json.loads((folder / "manifest.json").read_text())["signer"]["public_key"])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    command += ["-in", str(folder / "manifest.json"), "-sigfile", str(folder / "manifest.sig")]
    assert "Verified Successfully" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert (house.world.home.path / "signing.key").stat().st_mode & 0o077 == 0


def test_a_manifest_that_was_written_anew_by_somebody_else_is_found(house: House, other: House) -> None:
    folder = Path(house.world.register(1).folder)
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "adapter.gguf").write_bytes(b"GGUF-evil")
    forged = {**told["files"], "adapter.gguf": f"sha256:{files.sha256_of(folder / 'adapter.gguf')}"}
    (folder / "manifest.json").write_text(json.dumps({**told, "files": forged}, indent=1, sort_keys=True))
    assert folders.verify(folder) == ["manifest.json was changed: its signature does not hold"]
    folders.sealed(other.world.home, folder, told, forged)
    assert folders.verify(folder, signer=house.signer) == ["manifest.json was signed by somebody else"]


# --- card and bill of materials ---------------------------------------------------------------------------------------


def test_a_card_tells_data_figures_slices_gaps_gates_and_time(house: House) -> None:
    version = evaluated(house, house.world.register(1))
    text = (Path(version.folder) / "card.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert (head["base_model"], head["library_name"], head["datasets"]) == ("tiny", "peft", [f"{MODEL}@1"])
    metric = head["model-index"][0]["results"][0]["metrics"][0]
    assert (metric["type"], round(metric["value"], 3), metric["args"]["n"]) == ("exact_match", 0.667, 60)
    for part in (
        "## Use",
        "## Data",
        "## Evaluation",
        "## By slice",
        "## Bias",
        "## Gates",
        "## Time and energy",
        "## Limits",
    ):
        assert part in text
    assert "Turns what people say into JSON." in text
    assert "language=pt" in text
    assert "exact_match by language" in text
    assert "Fewer than 100 cases" in text


def test_words_from_outside_make_neither_tags_nor_columns_nor_keys(house: House) -> None:
    record = house.world.register(1).to_dict()
    hostile = {**record, "base": "x\nlicense: mine", "recipe": {"note": "<script>| b\n---"}, "purpose": "fine"}
    text = card.write(hostile)
    assert yaml.safe_load(text.split("\n---\n")[0].removeprefix("---"))["base_model"] == "x\nlicense: mine"
    assert "| note | &lt;script>\\| b --- |" in text


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bill_of_materials_is_what_the_standards_own_validator_calls_valid(house: House, seed: int) -> None:
    version = evaluated(house, house.world.register(1)) if seed else house.world.base
    content = (Path(version.folder) / "bom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    told = json.loads(content)
    model = told["metadata"]["component"]
    assert (model["type"], model["version"]) == ("machine-learning-model", str(version.number))
    if seed:
        hashes = {one["name"]: one["hashes"][0]["content"] for one in model["components"]}
        assert hashes["adapter.gguf"] == files.sha256_of(Path(version.folder) / "adapter.gguf")
        slices = {one["slice"] for one in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
        assert slices == {"test", "test: language=en", "test: language=pt"}


def test_libraries_data_and_licences_are_in_the_bill(house: House) -> None:
    record = house.world.register(1).to_dict() | {
        "environment": {"torch": "2.13.0+cpu", "threads": "2"}, "base_licence": "Apache-2.0", "purpose": "x",
        "data": {"rows": 5, "licence": "CC-BY-4.0", "sensitivity": "personal", "description": "said to the house"},
    }  # fmt: skip
    told = bom.write(record, {})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(told)) is None
    assert {one.get("purl") for one in told["components"]} == {None, "pkg:pypi/torch@2.13.0"}
    assert told == bom.write(record, {})  # the same each time


# --- out and in -------------------------------------------------------------------------------------------------------


def test_a_version_goes_out_and_comes_in_elsewhere_as_a_candidate(house: House, other: House) -> None:
    version = evaluated(house, house.world.register(1))
    file = house.out(version)
    again = house.out(version)
    assert file.read_bytes() == again.read_bytes()
    found = other.bring(file, signer=house.signer)
    assert (found.stage, found.digest, found.adapter_digest) == ("candidate", version.digest, version.adapter_digest)
    assert (found.origin["ref"], found.origin["signer"]) == (version.ref, house.signer)
    assert (found.dataset, found.dataset_digest, found.trial) == ("", "sha256:rows", "")
    assert found.evaluation == {}
    assert found.origin["evaluation"]["test"]["exact_match"]["n"] == 60
    assert [one["outcome"] for one in found.origin["verdicts"]] == ["pass"]
    assert folders.verify(Path(found.folder), signer=other.signer) == []
    assert other.bring(file, signer=house.signer) == found
    with other.world.db.writing() as conn, pytest.raises(Refused, match="its gates were never judged"):
        rollout.promote(conn, found.ref, actor="root")
    assert [one.action for one in audit.page(other.world.db, action="version.imported")] == ["version.imported"] * 2
    assert list(archives.arrivals(other.platform).iterdir()) == []
    text = card.write(found.to_dict())
    assert "Measured where it came from, not here" in text


def test_it_comes_back_home_as_what_it_was(house: House) -> None:
    version = house.world.register(1)
    assert house.bring(house.out(version)) == version


def test_another_signer_another_base_another_model_are_refused(house: House, other: House) -> None:
    file = house.out(house.world.register(1))
    with pytest.raises(Refused, match="was signed by ed25519"):
        other.bring(file)
    base = other.world.home.bases / "fake" / "base.json"
    base.write_text(base.read_text().replace("sha256:base", "sha256:else"))
    with pytest.raises(Refused, match="it stands on tiny"):
        other.bring(file, signer=house.signer)
    with pytest.raises(CirandaError, match="no model 'nobody'"):
        archives.bring(other.platform, "nobody", file, signer=house.signer, actor="bo")


Change = Callable[[dict[str, bytes]], None]


def evil(*names: str, content: bytes = b"x") -> Change:
    return lambda parts: parts.update(dict.fromkeys(names, content))


HOSTILE: dict[str, tuple[Change, str]] = {
    "outside": (evil("../../etc/cron.d/x"), "an entry is called"),
    "absolute": (evil("/etc/passwd"), "an entry is called"),
    "backslash": (evil("adapter\\..\\x.json"), "an entry is called"),
    "hidden": (evil(".ssh/id.json"), "an entry is called"),
    "pickle": (evil("adapter/pytorch_model.bin", content=pickle.dumps({})), "never as a pickle"),
    "code": (evil("adapter/modeling.py"), "no kind of file"),
    "more": (evil("adapter/extra.json", content=b"{}"), "not in its manifest"),
    "case": (evil("Card.md"), "two entries"),
    "less": (lambda parts: parts.pop("adapter.gguf") and None, "is missing"),
    "unsigned": (lambda parts: parts.pop("manifest.sig") and None, "manifest.sig' is missing|manifest.sig is missing"),
    "changed": (lambda parts: parts.update({"adapter.gguf": b"GGUF-evil"}), "is not what the manifest says"),
    "rewritten": (
        lambda parts: parts.update({"manifest.json": parts["manifest.json"] + b" "}),
        "signature does not hold",
    ),
    "other key": (lambda parts: parts.update({"signing.pub": b"-----BEGIN PUBLIC KEY-----\nAAAA\n"}), "no public key"),
    "no key": (lambda parts: parts.update({"signing.pub": b"\xff\x00"}), "no public key"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(house: House, tmp_path: Path, what: str) -> None:
    change, said = HOSTILE[what]
    with zipfile.ZipFile(house.out(house.world.register(1))) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    change(parts)
    file = tmp_path / "evil.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as into:
        for name, content in parts.items():
            into.writestr(zipfile.ZipInfo(name), content)
    house.platform.home.artefacts.joinpath("arrivals").exists() and shutil.rmtree(archives.arrivals(house.platform))
    with pytest.raises((Invalid, Refused), match=said):
        house.bring(file)
    assert list(archives.arrivals(house.platform).iterdir()) == []
    with house.world.db.reading() as conn:
        assert len(versions.of(conn, MODEL)) == 2
    assert not list(tmp_path.parent.glob("**/cron.d"))


def test_packed_linked_doubled_huge_and_cut_archives_are_refused(house: House, tmp_path: Path) -> None:
    file = tmp_path / "odd.zip"

    def refused(said: str, error: type[CirandaError] = Invalid) -> None:
        with pytest.raises(error, match=said):
            house.bring(file)

    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as into:
        into.writestr("bomb.json", b"0" * 50_000_000)
    refused("is packed or encrypted")
    link = zipfile.ZipInfo("adapter/link.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(file, "w") as into:
        into.writestr(link, "/etc/passwd")
    refused("is a link or a device")
    with zipfile.ZipFile(file, "w") as into:
        into.writestr("card.md", "one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            into.writestr("card.md", "two")
    refused("two entries are called")
    with zipfile.ZipFile(file, "w") as into:
        for n in range(archive.ENTRIES + 1):
            into.writestr(f"f{n}.json", b"")
    refused("entries", TooLarge)
    with zipfile.ZipFile(file, "w") as into:
        into.writestr("card.md", b"0" * (archive.TEXT_BYTES + 1))
    refused("bytes", TooLarge)
    whole = house.out(house.world.register(1)).read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:length])
        refused("no whole ZIP")


def test_a_signed_archive_is_held_to_bounds_all_the_same(house: House, tmp_path: Path) -> None:
    """Even whoever holds the key cannot name a file outside, or weights that are none."""
    version = house.world.register(1)
    folder = tmp_path / "forged"
    shutil.copytree(version.folder, folder)
    (folder / "evidence.json").write_text("{}")
    (folder / "adapter.gguf").write_bytes(pickle.dumps({}))
    file = tmp_path / "forged.zip"

    def packed(**more: Any) -> None:
        told = {**json.loads((folder / "manifest.json").read_text()), **more}
        named = {name: f"sha256:{digest}" for name, digest in folders.digests(folder).items() if name != "signing.pub"}
        folders.sealed(house.world.home, folder, told, named)
        (folder / "signing.pub").write_text(signatures.signer(house.world.home).public)
        with zipfile.ZipFile(file, "w") as into:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                into.write(path, path.relative_to(folder).as_posix())

    packed()
    with pytest.raises(Invalid, match="is no GGUF file"):
        house.bring(file)
    (folder / "adapter.gguf").write_bytes(b"GGUF\x01")
    packed(recipe={"rank": {"deep": 1}})
    with pytest.raises(Invalid, match="its manifest says recipe"):
        house.bring(file)
    packed(recipe={"rank": 9, "seed": 1})
    with pytest.raises(Refused, match="its record is not that of its digest"):
        house.bring(file)
    packed(adapter_digest="sha256:" + "0" * 64)
    with pytest.raises(Refused, match="its weights are not those of its digest"):
        house.bring(file)


def test_a_folder_that_is_not_whole_does_not_leave(house: House) -> None:
    version = house.world.register(1)
    (Path(version.folder) / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(Refused, match="the folder is not whole"):
        house.out(version)
    assert list(archives.arrivals(house.platform).iterdir()) == []


# --- removal ----------------------------------------------------------------------------------------------------------


def gone(house: House, ref: str) -> Version:
    return removal.remove(house.world.db, house.world.home, ref, reason="asked", actor="ana")


def lived(house: House, *refs: str) -> None:
    with house.world.db.writing() as conn:
        for ref in refs:
            rollout.promote(conn, ref, actor="ana")


def test_weights_go_and_what_is_said_of_the_version_stays(house: House) -> None:
    first = house.world.passed(1)
    version = gone(house, first.ref)
    folder = Path(version.folder)
    assert (version.stage, bool(version.removed_at)) == ("refused", True)
    assert {path.name for path in folder.iterdir()} == {*folders.ABOUT, "manifest.json", "manifest.sig"}
    assert folders.verify(folder, signer=house.signer) == []
    assert gone(house, first.ref) == version
    with house.world.db.writing() as conn:
        with pytest.raises(Conflict, match="weights of smart-home@1 were removed"):
            rollout.promote(conn, first.ref, actor="ana")
        assert history.of(conn, MODEL)[-1].reason == "its weights were removed: asked"
    with pytest.raises(Refused, match="nothing to carry"):
        house.out(version)


def test_what_is_needed_is_not_removed(house: House) -> None:
    first, second, third = (house.world.passed(seed).ref for seed in (1, 2, 3))
    lived(house, f"{MODEL}@0", first, second)
    for ref, said in ((second, "is live"), (first, "where a rollback"), (f"{MODEL}@0", "the bare base")):
        with pytest.raises(Conflict, match=said):
            gone(house, ref)
    with house.world.db.writing() as conn:
        aliases.put(conn, third, "champion", actor="ana")
    with pytest.raises(Conflict, match="is called champion"):
        gone(house, third)
    with house.world.db.writing() as conn:
        aliases.remove(conn, MODEL, "champion", actor="ana")
        rollout.start(conn, third, actor="ana")
    with pytest.raises(Conflict, match="is being released"):
        gone(house, third)


def test_retention_keeps_what_answered_users_and_then_takes_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.world.apply(base="tiny", serve={"engine": "fake"}, retention={"versions": "30d"})
    first, second, third = (house.world.passed(seed).ref for seed in (1, 2, 3))
    lived(house, first, second, third)
    with pytest.raises(Refused, match="answered users, and is kept until"):
        gone(house, first)
    assert removal.sweep(house.world.db, house.world.home) == []
    later = clock.now() + timedelta(days=31)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert removal.sweep(house.world.db, house.world.home) == [first]  # the second is where a rollback goes
    with house.world.db.reading() as conn:
        assert models.get(conn, MODEL).spec.retention.versions == 30 * 86400
    assert removal.sweep(house.world.db, house.world.home) == []


def test_files_that_a_kill_left_go_with_the_next_look(house: House) -> None:
    version = house.world.register(1)
    with house.world.db.writing() as conn:
        versions.removed(conn, version.ref, reason="asked", actor="ana")  # and here it died
    removal.sweep(house.world.db, house.world.home)
    assert not (Path(version.folder) / "adapter.gguf").exists()
