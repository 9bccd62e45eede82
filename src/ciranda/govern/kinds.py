"""What counts as personal data: one pattern for each form of each kind, and what must hold besides.

A pattern alone calls every long number a document. Three things make it mean something: a check digit (`digits`), what stands
right before it ("CEP", "born on"), and what must not ("order", "version"). Where a form is nobody else's (an identity card's
dots and hyphen, a CPF's), no word is asked for; where it is everybody's (eight digits, eleven digits), one is.
Each pattern is bounded in length, so that time stays linear, and says what it is `near`: only those parts of a text are searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ciranda.govern import digits

BEFORE = 40  # characters before a match that count as its context

Holds = Callable[[str, str], int | bool]


@dataclass(frozen=True)
class Form:
    """One form of a kind.

    Args:
        near: Where it can stand: near a digit (`code`; `street` looks further), among six characters that begin and end with
            digits (`short`), around seven digits of one number (`long`), around an `@`, or anywhere (`text`).
        holds: Says whether what was found, with the text before it, is one (True), or how many of its characters are.
        signs: One of these words stands in every text that has one; none means that any text may.
    """

    kind: str
    near: str
    pattern: re.Pattern[str]
    holds: Holds
    signs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Words:
    """Words that say what follows; one of them within so many characters before it."""

    known: frozenset[str]
    within: int

    def stand(self, before: str) -> bool:
        """Whether one of them stands at the end of a text."""
        return not self.known.isdisjoint(_TOKENS.findall(before[-self.within :].lower()))


def _words(text: str, *, within: int) -> Words:
    return Words(frozenset(text.split()), within)


_DIGITS = re.compile(r"[0-9]+")
_TOKENS = re.compile(r"[^\W\d_]+")
_OTHER = _words(
    "order orders pedido pedidos protocolo protocolos ticket tickets chamado invoice invoices nf fiscal sku tracking rastreio v"
    " code rastreamento version versão versao ref reference código codigo códigos lote lotes batch serial isbn contract contrato"
    " contratos processo processos boleto build release part patent ean gtin shipment remessa parcel case caso issue parcela",
    within=18,
)
_CEP = _words("cep código codigo postal endereço endereco moro rua avenida av bairro cidade", within=40)
_PHONE = _words(
    "phone phones telephone telefone telefones fone tel cel celular whats whatsapp zap ligue ligar contato contatos contact call"
    " called calling mobile cell number numbers text texted sms fax pix ramal reach dial número numero disque discar",
    within=40,
)
_CPF = _words("cpf cpfs", within=18)
_CNPJ = _words("cnpj cnpjs", within=18)
_RG = _words("rg identidade registro", within=22)
_PIS = _words("pis pasep nis nit", within=18)
_NO_PIX = _words("id uuid guid request trace session sessão span correlation commit build device", within=12)
_IP = _words(
    "ip ips ipv endereço address addresses host hosts server servers servidor ping ssh from login gateway dns proxy",
    within=26,
)
_BORN = _words(
    "born nascido nascida nascidos nasci nasceu nascimento nasc dob birth birthdate birthday aniversário aniversario",
    within=36,
)
_CARD = _words("card cards cartão cartao cc visa mastercard amex crédito débito", within=40)
_HOME = _words(
    "endereço endereco moro mora moramos resido reside residente domiciliado domiciliada residência", within=24
)
_SSN = _words("ssn social security", within=40)
_NO_DDD = frozenset(
    re.findall(r"\d\d", "20 23 25 26 29 30 36 39 40 50 52 56 57 58 59 60 70 72 76 78 80 90")
)  # of 11 to 99


def _always(_found: str, _before: str) -> bool:
    return True


def _said(words: Words) -> Holds:
    return lambda _found, before: words.stand(before)


def _unless(words: Words) -> Holds:
    return lambda _found, before: not words.stand(before)


def _written(check: Callable[[str], bool], words: Words) -> Holds:
    """The check digits hold, or the text says what it is and it is no run of one digit (a mistyped number is personal too)."""
    return lambda found, before: check(found) or (len(set(digits.digits(found))) > 2 and words.stand(before))


def _phone(found: str, before: str) -> bool:
    """A number that a plan has: with a country's code, ten or eleven digits of Brazil, ten of North America."""
    number = "".join(_DIGITS.findall(found.partition("x")[0]))
    if found.startswith(("+", "00")):
        return 8 <= len(number.lstrip("0")) <= 15
    if _OTHER.stand(before):
        return False
    spoken = _PHONE.stand(before)
    if found.isdigit() and not spoken:
        return False  # a bare run of digits is anything
    local = number.removeprefix("0") if len(number) in (11, 12) and number[0] == "0" else number
    if len(local) == 11 and local[0] == "1":
        local = local[1:]  # North America's country code
    brazilian = len(local) in (10, 11) and _area(local[:2]) and (local[2] == "9") == (len(local) == 11)
    american = len(local) == 10 and local[0] in "23456789" and (local[3] in "23456789" or spoken)
    mobile = len(local) == 9 and local[0] == "9" and (spoken or "-" in found)
    return brazilian or american or mobile or (spoken and 8 <= len(local) <= 12)


def _area(code: str) -> bool:
    """A Brazilian area code."""
    return "11" <= code <= "99" and code not in _NO_DDD


def _ip(found: str, before: str) -> bool:
    """Version numbers look the same: a word says which, or the parts are larger than versions have."""
    parts = [int(part) for part in found.split(".")]
    if any(part > 255 for part in parts) or _OTHER.stand(before) or parts[0] == 0:
        return False
    return _IP.stand(before) or sum(part > 31 for part in parts) >= 2 or found.startswith(("192.168.", "127.0.0"))


def _pis(found: str, before: str) -> bool:
    return digits.pis(found) and ("." in found or _PIS.stand(before))


def _cep(found: str, before: str) -> bool:
    return _CEP.stand(before) or ("-" in found and not _OTHER.stand(before))


def _card(found: str, before: str) -> bool:
    if _CARD.stand(before):
        return digits.luhn(found)
    return digits.card(found) and not _OTHER.stand(before)


def _said_apart(_found: str, before: str) -> bool:
    return _HOME.stand(before) and not before[-1:].isalnum()


def _apart(_found: str, before: str) -> bool:
    return not before[-1:].isalnum()


_MONTH = (
    r"(?:jan(?:uary|eiro)?|feb(?:ruary)?|fev(?:ereiro)?|mar(?:ch|ço|co)?|a[pb]r(?:il)?|ma[yi]o?|june?|junho|july?|julho|aug(?:ust)?"
    r"|ago(?:sto)?|sep(?:t(?:ember)?)?|set(?:embro)?|o[cu]t(?:ober|ubro)?|nov(?:ember|embro)?|de[cz](?:ember|embro)?)"
)
_YEAR = r"(?:19|20)\d{2}"
_WORD = r"[A-ZÀ-Ý0-9][\w'’.-]{0,20}"
_BR_TYPES = (
    r"Rua|R\.|Avenida|Av\.?|Travessa|Alameda|Al\.|Rodovia|Rod\.|Praça|Praca|Pça\.|Estrada|Largo|Viela|Vila|Ladeira|Via|Passarela|Praia"
    r"|Parque|Morro|Lago|Lagoa|Jardim|Fazenda|Distrito|Condomínio|Conjunto|Colônia|Chácara|Campo|Esplanada|Estação|Favela|Feira"
    r"|Loteamento|Núcleo|Pátio|Quadra|Recanto|Residencial|Setor|Sítio|Trecho|Trevo|Vale|Vereda|Viaduto|Área|Aeroporto|rua|avenida"
    r"|travessa|alameda|rodovia|praça"
)
_EN_TYPES = (  # suffixes of the United States Postal Service, publication 28, and what Britain adds
    r"Alley|Ave|Avenue|Bayou|Beach|Bend|Bluff|Bluffs|Boulevard|Blvd|Bottom|Branch|Bridge|Brook|Brooks|Burg|Burgs|Bypass|Camp"
    r"|Canyon|Cape|Causeway|Center|Centers|Circle|Circles|Cir|Cliff|Cliffs|Close|Club|Common|Commons|Corner|Corners|Course"
    r"|Court|Courts|Ct|Cove|Coves|Creek|Crescent|Crest|Crossing|Crossroad|Curve|Dale|Dam|Divide|Drive|Drives|Dr|Estate"
    r"|Estates|Expressway|Extension|Extensions|Falls|Ferry|Field|Fields|Flat|Flats|Ford|Fords|Forest|Forge|Forges|Fork|Forks"
    r"|Fort|Freeway|Garden|Gardens|Gateway|Glen|Glens|Green|Greens|Grove|Groves|Harbor|Harbors|Haven|Heights|Highway|Hwy"
    r"|Hill|Hills|Hollow|Inlet|Island|Islands|Isle|Junction|Junctions|Key|Keys|Knoll|Knolls|Lake|Lakes|Land|Landing|Lane|Ln"
    r"|Light|Lights|Loaf|Lock|Locks|Lodge|Loop|Mall|Manor|Manors|Meadow|Meadows|Mews|Mill|Mills|Mission|Motorway|Mount"
    r"|Mountain|Mountains|Neck|Orchard|Oval|Overpass|Park|Parks|Parkway|Parkways|Pkwy|Pass|Passage|Path|Pike|Pine|Pines"
    r"|Place|Pl|Plain|Plains|Plaza|Point|Points|Port|Ports|Prairie|Radial|Ramp|Ranch|Rapid|Rapids|Rest|Ridge|Ridges|River"
    r"|Road|Roads|Rd|Route|Row|Rue|Run|Shoal|Shoals|Shore|Shores|Skyway|Spring|Springs|Spur|Square|Squares|Sq|Station"
    r"|Stravenue|Stream|Street|Streets|St|Summit|Terrace|Ter|Throughway|Trace|Track|Trafficway|Trail|Tunnel|Turnpike"
    r"|Underpass|Union|Unions|Valley|Valleys|Via|Viaduct|View|Views|Village|Villages|Ville|Vista|Walk|Walks|Wall|Way|Ways"
    r"|Well|Wells"
)


def _from(first: str, rest: str) -> re.Pattern[str]:
    """A pattern that begins where a word does. Its first character is told apart, since `re` skips fast to a set of characters,
    but looks at every place of a text for a pattern that begins with `\\b`.
    """
    return re.compile(rf"{first}(?<![\w].){rest}", re.S)


_UUID = _from(
    "[0-9a-fA-F]", r"[0-9a-fA-F]{7}-[0-9a-fA-F]{4}-[1-5][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}\b"
)
_CNPJ_LETTERS = _from("[0-9A-Z]", r"[0-9A-Z]\.?[0-9A-Z]{3}\.?[0-9A-Z]{3}/?[0-9A-Z]{4}-?\d{2}\b")
_IBAN = _from("[A-Z]", r"[A-Z]\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_DAY_FIRST = _from(
    r"\d",
    r"(?:\d?[/.-]\d{1,2}[/.-](?:19|20)?\d{2}|\d{3}[/.-]\d{1,2}[/.-]\d{1,2}"
    rf"|\d?(?:st|nd|rd|th|º)?,? (?:de |of )?(?i:{_MONTH})\.?,? (?:de )?{_YEAR})\b",
)
_MONTH_FIRST = _from("[JFMASOND]", rf"(?<=(?=(?i:{_MONTH})).)[a-z]{{2,8}}\.? \d{{1,2}}(?:st|nd|rd|th)?,? {_YEAR}\b")
_SSN_AREA = r"(?<!9)(?<=(?!000|666).)\d{2}"
_ABROAD = re.compile(r"[+0](?<![\w.-].)0?\d{1,3}(?:[ .-]{0,2}\(?0?\d{1,4}\)?){2,6}(?![\w])")
_AT_HOME = re.compile(
    r"[\d(](?<![\w.-].)\(?0?\d{0,3}\)?(?:[ .-]{0,2}\(?\d{3}\)?)?[ .-]{0,2}\d{3,5}[ .-]?\d{4}(?:x\d{1,5})?(?![\w]|[.-]\d)"
)
_LOCAL = re.compile(r"\d(?<![\w.-].)\d{3,4}-\d{4}(?![\w-])")
_FREE = re.compile(r"0(?<![\w.-].)[38]00[ -]?\d{3}[ -]?\d{4}(?![\w-])")
_BR_STREET = re.compile(
    rf"(?:{_BR_TYPES}) (?:(?:d[aeo]s?|e|{_WORD}) ?){{1,7}}(?:,? ?(?:n[º°o.]{{0,2}}|número|numero)? ?\d{{1,5}}\b)"
    r"(?:,? ?(?:ap(?:to?|artamento)?|casa|bloco|sala|conj)\.? ?[\w-]{1,6}\b)?"
)
_BR_SPOKEN = re.compile(rf"(?:{_BR_TYPES})(?: (?:d[aeo]s? )?{_WORD}){{1,5}}")
_EN_STREET = _from(
    r"\d",
    rf"\d{{0,5}}[A-Za-z]? (?:(?:[A-ZÀ-Ý][\w'’.-]{{0,20}}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}(?:{_EN_TYPES})\b\.?"
    r"(?:,? (?:Apt|Suite|Ste|Unit|Apartment|Room|Floor|#)\.? ?[\w-]{1,6}\b)?",
)

FORMS: tuple[Form, ...] = (
    Form("email", "@", re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63}){1,4}\b"), _always),
    Form("pix", "code", _UUID, _unless(_NO_PIX)),
    Form("cnpj", "long", _from(r"\d", r"\d\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}\b"), _written(digits.cnpj, _CNPJ)),
    Form("cnpj", "code", _CNPJ_LETTERS, lambda found, _: digits.cnpj(found)),
    Form("cpf", "long", _from(r"\d", r"\d{2}[. ]?\d{3}[. ]?\d{3}[- ]?\d{2}\b"), _written(digits.cpf, _CPF)),
    Form("pis", "long", _from(r"\d", r"\d{2}\.?\d{5}\.?\d{2}-?\d\b"), _pis),
    Form("card", "long", _from(r"\d", r"(?:[ -]?\d){11,18}\b"), _card),
    Form("iban", "code", _IBAN, lambda found, _: digits.iban(found)),
    Form("rg", "long", _from(r"\d", r"\d\.\d{3}\.\d{3}-[\dxX]\b"), _unless(_OTHER)),
    Form("rg", "long", _from(r"\d", r"\d?\.?\d{3}\.?\d{3}-?[\dxX]?\b"), _said(_RG), _RG.known),
    Form("birth", "short", _DAY_FIRST, _said(_BORN), _BORN.known),
    Form("birth", "short", _MONTH_FIRST, _said(_BORN), _BORN.known),
    Form("ssn", "long", _from(r"\d", rf"{_SSN_AREA}-(?!00)\d{{2}}-(?!0000)\d{{4}}\b"), _unless(_OTHER)),
    Form("ssn", "long", _from(r"\d", rf"{_SSN_AREA} ?(?!00)\d{{2}} ?(?!0000)\d{{4}}\b"), _said(_SSN), _SSN.known),
    Form("ip", "short", _from(r"\d", r"(?<!\..)\d{0,2}(?:\.\d{1,3}){3}(?![\w]|\.\d)"), _ip),
    Form("ip", "code", _from("[0-9a-fA-F]", r"[0-9a-fA-F]{0,3}(?::[0-9a-fA-F]{1,4}){7}(?![\w:])"), _always),
    Form("phone", "long", _ABROAD, _phone),
    Form("phone", "long", _AT_HOME, _phone),
    Form("phone", "long", _LOCAL, _phone),
    Form("phone", "long", _FREE, _always),
    Form("cep", "long", _from(r"\d", r"\d\.?\d{3}-?\d{3}\b(?!-?\d)"), _cep),
    Form("address", "street", _BR_STREET, _apart),
    Form("address", "street", _EN_STREET, _always),
    Form("address", "text", _BR_SPOKEN, _said_apart, _HOME.known),
)

KINDS = (*dict.fromkeys(form.kind for form in FORMS), "name")
