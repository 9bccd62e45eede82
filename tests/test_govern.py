"""Who may, what may pass, what happened."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ciranda.config import Home
from ciranda.errors import Forbidden, Invalid, NotFound, Unauthenticated
from ciranda.govern import access, audit, extracts, guard, signatures
from ciranda.store.database import Database, metadata


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/c.db")
    metadata.create_all(database.engine)
    yield database
    database.close()


def test_the_chain_verifies_and_a_changed_event_shows(database):
    for number in range(5):
        with database.writing() as conn:
            audit.record(conn, actor="ana", action="version.registered", subject=f"smart-home@{number}")
    whole = audit.verify(database)
    assert whole.ok
    assert whole.events == 5
    with database.writing() as conn:
        conn.execute(audit.audit_events.update().where(audit.audit_events.c.number == 3).values(actor="mallory"))
    broken = audit.verify(database)
    assert not broken.ok
    assert "event 3" in broken.problem
    assert "was changed" in broken.problem


def test_a_removed_event_and_a_cut_end_show(database):
    for number in range(4):
        with database.writing() as conn:
            audit.record(conn, actor="ana", action="key.created", subject=str(number))
    head = audit.verify(database).head
    with database.writing() as conn:
        conn.execute(audit.audit_events.delete().where(audit.audit_events.c.number == 4))
    assert audit.verify(database).ok
    assert "cut off" in audit.verify(database, head=head).problem
    with database.writing() as conn:
        conn.execute(audit.audit_events.delete().where(audit.audit_events.c.number == 2))
    assert "event 2 is missing" in audit.verify(database).problem


def test_the_log_leaves_as_a_signed_file_that_anybody_can_check(database: Database, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    for number in range(5):
        with database.writing() as conn:
            audit.record(conn, actor="ana", action="key.created", subject=str(number))
    lines = list(extracts.extract(database, home, actor="eva"))
    mine = signatures.signer(home).fingerprint
    told = extracts.check(lines, signer=mine)
    assert (told.ok, told.events, told.signer, told.head) == (True, 6, mine, audit.verify(database).head)
    more = extracts.check(list(extracts.extract(database, home, actor="eva", since=6)))
    assert (more.ok, more.events, more.expected) == (True, 1, False)
    other = Home(tmp_path / "other")
    other.make()
    forged = list(extracts.extract(database, other, actor="eva"))
    assert "was signed by" in extracts.check(forged, signer=mine).problem
    changed = [one.replace(b'"ana"', b'"eve"') if n == 2 else one for n, one in enumerate(lines)]
    for broken, why in (
        (changed, "event 3 (key.created 2) was changed"),
        ([*lines[:2], *lines[3:]], "event 3 is missing"),
        (lines[1:], "the seal speaks of other events"),
        ([*lines[:5], lines[6]], "the seal speaks of other events"),
        ([*lines[:6], lines[6].replace(b'"at":"2', b'"at":"3')], "the signature does not hold"),
        ([*lines[:6], forged[-1]], "the seal speaks of other events"),
    ):
        assert why in extracts.check(broken, signer=mine).problem
    for nothing in ([], lines[:6], [b"{}\n"], [b"\xff", lines[-1]]):
        with pytest.raises(Invalid):
            extracts.check(nothing)
    with pytest.raises(Invalid, match="no event 99"):
        extracts.extract(database, home, actor="eva", since=99)


def test_an_event_dies_with_its_transaction(database):
    def change_that_fails():
        with database.writing() as conn:
            audit.record(conn, actor="ana", action="model.applied", subject="smart-home")
            raise RuntimeError("the change itself failed")

    with pytest.raises(RuntimeError):
        change_that_fails()
    assert audit.verify(database).events == 0


def test_a_key_opens_what_its_role_says_and_nothing_else(database):
    with database.writing() as conn:
        _, secret = access.create(conn, "router app", role="client", actor="test", models=["smart-home"])
    principal = access.check(database, secret)
    access.require(principal, "chat", "smart-home")
    with pytest.raises(Forbidden, match="may not chat on other"):
        access.require(principal, "chat", "other")
    with pytest.raises(Forbidden, match="roles: engineer, approver, admin"):
        access.require(principal, "rollback", "smart-home")


def test_secrets_are_not_stored_and_revoked_keys_are_closed(database):
    with database.writing() as conn:
        principal, secret = access.create(conn, "app", role="viewer", actor="test")
    with database.reading() as conn:
        assert secret not in str(conn.execute(sa.select(access.keys)).all())
    with database.writing() as conn:
        access.revoke(conn, principal.key, actor="test")
    with pytest.raises(Unauthenticated):
        access.check(database, secret)
    with pytest.raises(NotFound), database.writing() as conn:
        access.revoke(conn, principal.key, actor="test")
    with pytest.raises(Invalid, match="no role 'king'"), database.writing() as conn:
        access.create(conn, "x", role="king", actor="test")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Meu CPF é 529.982.247-25, ok?", "Meu CPF é [cpf], ok?"),
        ("CNPJ 11.222.333/0001-81", "CNPJ [cnpj]"),
        ("alfanumérico 12.ABC.345/01DE-35", "alfanumérico [cnpj]"),
        ("pague com 4111 1111 1111 1111", "pague com [card]"),
        ("write to ana.souza@example.com.br", "write to [email]"),
        ("ligue (11) 98765-4321 já", "ligue [phone] já"),
        ("moro no 01310-100", "moro no [cep]"),
        ("meu nome é Ana Souza", "meu nome é [name]"),
        ("CPF: 123.456.789-00, digitado errado", "CPF: [cpf], digitado errado"),
        ("PIS 120.56412.54-5", "PIS [pis]"),
        ("identidade 45.678.123-5 SSP", "identidade [rg] SSP"),
        ("chave pix 123e4567-e89b-42d3-a456-426614174000", "chave pix [pix]"),
        ("request id 123e4567-e89b-42d3-a456-426614174000", "request id 123e4567-e89b-42d3-a456-426614174000"),
        ("nasci em 12 de março de 1985 em Recife", "nasci em [birth] em Recife"),
        ("born on March 5, 1971", "born on [birth]"),
        ("the meeting is on March 5, 2027", "the meeting is on March 5, 2027"),
        ("moro na Rua das Flores, 123 apto 45, Centro", "moro na [address], Centro"),
        ("meu endereço: Praça da Sé, centro", "meu endereço: [address], centro"),
        ("a Praça da Sé é bonita", "a Praça da Sé é bonita"),
        ("ship it to 742 Evergreen Terrace, Apt 3 please", "ship it to [address] please"),
        ("call me at +1 (555) 234-5678 or 555-234-5678", "call me at [phone] or [phone]"),
        ("meu zap é 11987654321", "meu zap é [phone]"),
        ("pedido 11987654321", "pedido 11987654321"),
        ("server 203.0.113.77 is down", "server [ip] is down"),
        ("upgraded to version 10.2.0.41", "upgraded to version 10.2.0.41"),
        ("pague em DE89 3704 0044 0532 0130 00 HOJE", "pague em [iban] HOJE"),
        ("my name is ana souza and i like jazz", "my name is [name] and i like jazz"),
        ("Dear Emily Johnson, thanks", "Dear [name], thanks"),
        ("Prezada Sra. Ana Lima,", "Prezada Sra. [name],"),
        ("Dear Customer, thanks", "Dear Customer, thanks"),
        ("who is Michael Jordan?", "who is Michael Jordan?"),
        ("order 111.111.111-11 of 12345678901", "order 111.111.111-11 of 12345678901"),
        ("turn on the light in the kitchen at 22.5", "turn on the light in the kitchen at 22.5"),
    ],
)
def test_personal_data_is_found_by_check_digit(text, masked):
    assert guard.mask(text)[0] == masked


@given(st.text(max_size=300))
def test_masking_twice_is_masking_once(text):
    once, _ = guard.mask(text)
    assert guard.mask(once)[0] == once


def test_names_that_nothing_introduces_are_found_on_request() -> None:
    text = "Yesterday Emily Johnson and João da Silva met in Porto Alegre."
    assert guard.mask(text)[0] == text
    assert guard.mask(text, anywhere=True)[0] == "Yesterday [name] and [name] met in Porto Alegre."


HOSTILE = [
    "1",
    "1 ",
    "1.",
    "1-",
    "a@",
    "A",
    "A ",
    "Rua A ",
    "1 A ",
    "(",
    "+1 ",
    "my name is ",
    "Dr. ",
    "0:",
    "12/",
    "AB12 ",
    "jan 1 ",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_as_the_text_does_whatever_it_holds(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        began = time.process_time()
        guard.find_pii(text, anywhere=True)
        return time.process_time() - began

    seconds(1000)
    assert seconds(80_000) < 12 * max(seconds(20_000), 0.004)


WORDS = [
    "ana@example.com",
    "529.982.247-25",
    "4111 1111 1111 1111",
    "my name is Ana Lima",
    "+55 11 91234-5678",
    "casa",
    "12",
    ".",
]


@given(st.lists(st.sampled_from(WORDS), max_size=40), st.integers(5, 60))
def test_a_long_text_is_searched_in_stretches_and_gives_the_same(words: list[str], stretch: int) -> None:
    text = " ".join(words)
    whole = guard.find_pii(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "STRETCH", stretch)
        assert guard.find_pii(text) == whole


def test_a_text_full_of_addresses_is_masked_as_fast_as_any_other() -> None:
    masked, findings = guard.mask("a@b.cd " * 60_000)  # a search that compares findings with each other takes an hour
    assert len(findings) == 60_000
    assert masked == "[email] " * 60_000
