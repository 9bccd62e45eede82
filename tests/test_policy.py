"""Policies: what each effect leaves, how they combine, how they follow what was made from a dataset, and every door to rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciranda.config import Home
from ciranda.data import descriptions, reading, tags, versions
from ciranda.data.descriptions import Change
from ciranda.data.rows import Row
from ciranda.errors import Forbidden, Invalid, NotFound
from ciranda.govern import audit, policies, pseudonyms
from ciranda.govern.policy import PURPOSES, STRICTNESS, Effect, Facts, Policy, Reader, decide
from ciranda.store.database import Database, metadata

ADMIN, LABELLER = Reader("ana", "admin", "viewing"), Reader("bo", "labeller", "viewing")
ROWS = [
    Row.of("where is my parcel?", "ask the carrier", subject="maria", language="en", extra={"region": "EU", "tier": 2}),
    Row.of("cadê meu pacote?", "pergunte", subject="joão", language="pt-BR", extra={"region": "BR"}, tags=("vip",)),
    Row.of("hello", "hi", subject="maria", language="en", extra={"region": "US"}, split="test"),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    made = Database(f"sqlite:///{home.database}")
    metadata.create_all(made.engine)
    versions.commit(made, home, "tickets", ROWS, transformation={}, actor="t")
    yield made
    made.close()


def put(db: Database, **said: Any) -> None:
    with db.writing() as conn:
        policies.put(conn, policies.read({"policy": "p", **said}), actor="ana")


def seen(db: Database, home: Home, reader: Reader, ref: str = "tickets@1") -> dict[str, Row]:
    return {row.language + row.split: row for row in reading.read(db, home, ref, reader)}


# --- what each effect leaves ------------------------------------------------------------------------------------------


def test_people_are_hashed_for_all_but_admins_and_equal_people_stay_equal(db: Database, home: Home) -> None:
    found = seen(db, home, LABELLER)
    assert found["entrain"].subject == found["entest"].subject != found["pt-BRtrain"].subject
    assert found["entrain"].subject == pseudonyms.hashed(pseudonyms.key_of(home), "subject", "maria")
    assert seen(db, home, ADMIN)["entrain"].subject == "maria"
    assert seen(db, home, Reader("bo", "labeller", "labelling"))["entrain"].subject == "maria"


@pytest.mark.parametrize(
    ("field", "effect", "left"),
    [
        ("completion", "mask", ("[masked]", "[masked]")),
        ("completion", "deny", ("", "")),
        ("language", "mask", ("[masked]", "[masked]")),
        ("thumb", "deny", (0, 0)),
    ],
)
def test_a_field_is_masked_or_emptied(db: Database, home: Home, field: str, effect: Effect, left: Any) -> None:
    put(db, effect=effect, fields={"names": [field]})
    rows = list(reading.read(db, home, "tickets@1", LABELLER))
    assert {getattr(row, field) for row in rows} == set(left)
    assert [row.prompt for row in rows] == [row.prompt for row in ROWS]


def test_masked_messages_keep_their_roles_and_take_prompt_key_and_group_along(db: Database, home: Home) -> None:
    put(db, effect="mask", fields={"names": ["messages"]})
    (batch,) = reading.batches(db, home, "tickets@1", LABELLER)
    assert {json.loads(text)[0]["content"] for text in batch.column("messages").to_pylist()} == {"[masked]"}
    assert set(batch.column("prompt").to_pylist()) == {"[masked]"}
    stored = {row.key for row in ROWS}
    assert not stored & set(batch.column("key").to_pylist()), "a short text can be guessed from its digest"
    assert not {row.fingerprint for row in ROWS} & set(batch.column("fingerprint").to_pylist())
    assert len(set(batch.column("key").to_pylist())) == 3


def test_one_further_field_is_hidden_and_the_others_stay(db: Database, home: Home) -> None:
    put(db, effect="deny", fields={"names": ["extra.tier"]})
    assert seen(db, home, LABELLER)["entrain"].extra == {"region": "EU"}
    put(db, effect="hash", fields={"names": ["extra"]})
    assert set(seen(db, home, LABELLER)["pt-BRtrain"].extra) == {"region"}
    assert seen(db, home, LABELLER)["pt-BRtrain"].extra["region"] != "BR"


def test_tags_are_hidden_too(db: Database, home: Home) -> None:
    put(db, effect="mask", fields={"names": ["tags"]})
    assert seen(db, home, LABELLER)["pt-BRtrain"].tags == ("[masked]",)


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ({"field": "extra.region", "equals": "EU"}, {"pt-BRtrain", "entest"}),
        ({"field": "extra.region", "in": ["EU", "BR"]}, {"entest"}),
        ({"field": "extra.tier", "present": True}, {"pt-BRtrain", "entest"}),
        ({"field": "extra.tier", "present": False}, {"entrain"}),
        ({"field": "tags", "equals": "vip"}, {"entrain", "entest"}),
        ({"field": "extra.tier", "equals": 2}, {"pt-BRtrain", "entest"}),
        ({"field": "messages", "in": ["hello"]}, {"entrain", "pt-BRtrain"}),
    ],
)
def test_rows_are_left_out_by_what_stands_in_them(
    db: Database, home: Home, condition: dict[str, Any], left: set[str]
) -> None:
    put(db, effect="deny", rows=[condition])
    assert set(seen(db, home, LABELLER)) == left
    assert reading.count(db, home, "tickets@1", LABELLER) == len(left)
    assert sum(len(one) for one in reading.batches(db, home, "tickets@1", LABELLER, columns=("completion",))) == len(
        left
    )


def test_a_field_is_hidden_on_some_rows_only(db: Database, home: Home) -> None:
    put(db, effect="mask", fields={"names": ["completion"]}, rows=[{"field": "subject", "equals": "maria"}])
    found = seen(db, home, LABELLER)
    assert (found["entrain"].completion, found["pt-BRtrain"].completion) == ("[masked]", "pergunte")


def test_nobody_chooses_rows_by_a_field_they_do_not_see(db: Database, home: Home) -> None:
    put(db, effect="mask", fields={"names": ["language"]})
    with pytest.raises(Forbidden, match="may not choose rows by language"):
        reading.batches(db, home, "tickets@1", LABELLER, language="en")


def test_a_closed_dataset_says_which_policy_closed_it(db: Database, home: Home) -> None:
    put(db, effect="deny", datasets={"names": ["tickets"]}, purposes=["viewing"], who={"roles": ["labeller"]})
    with pytest.raises(Forbidden) as raised:
        reading.read(db, home, "tickets@1", LABELLER)
    assert raised.value.where == "policy p"
    assert reading.preview(db, home, "tickets@1", LABELLER).closed == "p"
    assert len(list(reading.read(db, home, "tickets@1", reading.itself("training")))) == 3


def test_an_allow_list_closes_to_everybody_else(db: Database, home: Home) -> None:
    put(db, effect="allow", fields={"names": ["completion"]}, who={"roles": ["admin", "platform"]})
    assert {row.completion for row in reading.read(db, home, "tickets@1", LABELLER)} == {""}
    assert seen(db, home, ADMIN)["entrain"].completion == "ask the carrier"
    put(db, policy="q", effect="allow", fields={"names": ["completion"]}, who={"roles": ["labeller"]})
    assert seen(db, home, LABELLER)["entrain"].completion == "ask the carrier", "on one of the lists is enough"
    assert {row.completion for row in reading.read(db, home, "tickets@1", Reader("v", "viewer", "viewing"))} == {""}


# --- how they combine, and what they follow ---------------------------------------------------------------------------

EFFECTS = st.sampled_from(["hash", "mask", "deny"])


@given(st.lists(st.tuples(EFFECTS, st.sampled_from(["viewing", "training"])), max_size=6), st.randoms())
def test_the_most_restrictive_wins_in_any_order(given_: list[tuple[Effect, str]], dice: Any) -> None:
    made = [
        Policy.model_validate(
            {"policy": f"p{n}", "effect": effect, "purposes": [purpose], "fields": {"names": ["source"]}}
        )
        for n, (effect, purpose) in enumerate(given_)
    ]
    dice.shuffle(made)
    found = decide(made, LABELLER, Facts(frozenset({"tickets"})))
    mine = [effect for effect, purpose in given_ if purpose == "viewing"]
    assert sorted(rule.effect for rule in found.rules) == sorted(mine)
    strictest = max(mine, key=STRICTNESS.__getitem__, default=None)
    assert max((rule.effect for rule in found.rules), key=STRICTNESS.__getitem__, default=None) == strictest
    assert found.digest == decide(list(reversed(made)), LABELLER, Facts(frozenset({"tickets"}))).digest


def test_policies_find_fields_by_tags_terms_and_sensitivity(db: Database, home: Home) -> None:
    with db.writing() as conn:
        tags.put(conn, "tickets", "extra.region", ["pii"])
        descriptions.change(conn, "tickets", "completion", Change(sensitivity="personal"), actor="ana")
    row = seen(db, home, LABELLER)["entrain"]
    assert (row.extra["region"], row.completion) == ("[masked]", "[masked]")
    assert seen(db, home, ADMIN)["entrain"].completion == "ask the carrier"
    assert seen(db, home, reading.itself("training"))["entrain"].completion == "ask the carrier"


def test_personal_datasets_leave_by_an_admins_hand_alone(db: Database, home: Home) -> None:
    with db.writing() as conn:
        descriptions.change(conn, "tickets", "", Change(sensitivity="personal"), actor="ana")
    with pytest.raises(Forbidden, match="closed"):
        reading.taken(db, home, "tickets@1", Reader("eva", "engineer", "export"), format_="jsonl")
    assert b"maria" in b"".join(reading.taken(db, home, "tickets@1", Reader("ana", "admin", "export"), format_="jsonl"))


def test_restrictions_go_along_with_the_rows_into_what_is_made_of_them(db: Database, home: Home) -> None:
    put(db, effect="mask", fields={"names": ["completion"]}, datasets={"names": ["tickets"]})
    made = versions.commit(db, home, "derived", ROWS[:2], transformation={"kind": "recipe"}, actor="eva")
    with db.writing() as conn:  # as a recipe records what it was made from
        conn.execute(versions.dataset_parents.insert().values(dataset="derived", number=1, parent="tickets@1"))
    assert seen(db, home, LABELLER, made.ref)["entrain"].completion == "[masked]"


def test_nothing_is_done_where_no_policy_touches_what_is_read(db: Database, home: Home) -> None:
    with db.writing() as conn:
        for default in policies.DEFAULTS:
            policies.remove(conn, default.policy, actor="ana")
    assert not reading.decision(db, "tickets", LABELLER)
    list(reading.batches(db, home, "tickets@1", LABELLER))
    assert not (home.path / pseudonyms.NAME).exists(), "no key is made before it is needed"


# --- policies as data -------------------------------------------------------------------------------------------------


def test_every_change_is_a_revision_and_an_audit_event(db: Database) -> None:
    put(db, effect="mask", fields={"names": ["source"]})
    put(db, effect="mask", fields={"names": ["source"]})
    put(db, effect="deny", fields={"names": ["source"]}, why="sources are ours")
    with db.writing() as conn:
        policies.remove(conn, "p", actor="bo")
    told = [(one["revision"], (one["body"] or {}).get("effect")) for one in policies.history(db, "p")]
    assert told == [(3, None), (2, "deny"), (1, "mask")]
    assert [one.action for one in audit.page(db, subject="p")] == ["policy.removed", "policy.set", "policy.set"]
    with db.writing() as conn, pytest.raises(NotFound, match="no policy 'p' is in force"):
        policies.remove(conn, "p", actor="bo")


def test_a_default_is_replaced_by_its_name_and_removed_for_good(db: Database) -> None:
    names = {one["policy"]: one["revision"] for one in policies.listing(db)}
    assert names == dict.fromkeys((one.policy for one in policies.DEFAULTS), 0)
    put(db, policy="people-are-hashed", effect="deny", fields={"names": ["subject"]})
    assert next(one for one in policies.listing(db) if one["policy"] == "people-are-hashed")["revision"] == 1
    with db.writing() as conn:
        policies.remove(conn, "people-are-hashed", actor="ana")
        assert "people-are-hashed" not in {one.policy for one in policies.current(conn)}
    assert [one["revision"] for one in policies.history(db, "people-are-hashed")] == [2, 1, 0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"effect": "mask"}, "mask needs fields"),
        ({"effect": "mask", "fields": {"names": ["split"]}}, "no field 'split'"),
        ({"effect": "hide", "fields": {"names": ["source"]}}, "effect"),
        ({"effect": "deny", "rows": [{"field": "source"}]}, "one of equals, in, present"),
        ({"effect": "deny", "policy": "No Name"}, "policy"),
        ({"effect": "deny", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_policy_is_refused_with_what_is_wrong(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        policies.read({"policy": "p", **wrong})


def test_there_is_a_purpose_for_everything_that_reads() -> None:
    assert PURPOSES == ("training", "evaluation", "labelling", "viewing", "export", "monitoring")
