"""Check digits: what makes a long number a document. Each function says whether a text, punctuation aside, is one.

Sources: CPF, CNPJ and PIS by Receita Federal and Caixa (modulo 11; the CNPJ of 2026 counts a letter as its ASCII code less 48),
the identity card of São Paulo (modulo 11, X for ten), cards by ISO/IEC 7812 (Luhn, and the ranges that issuers have),
IBAN by ISO 13616 (modulo 97, and the length that each country has).
"""

from __future__ import annotations

import re

# Issuers' ranges: Visa, Mastercard, American Express, Discover, Diners, JCB, Maestro, UnionPay, Elo, Hipercard.
_ISSUED = re.compile(
    r"(?:4\d{12}|4\d{15}|4\d{18}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|3(?:0[0-5]|095|[689]\d)\d{11,16}|(?:2131|1800)\d{11}|35\d{14}"
    r"|(?:5018|5020|5038|5[67]\d\d|6304|6759|676[1-3])\d{8,15}|62\d{14,17}"
    r"|(?:5067|4576|4011|5090|6277|6362|6363|6500|6504|6505|6509|6516|6550)\d{12}|(?:6062|3841)\d{9,15})"
)
_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 "
    "FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 "
    "LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 "
    "SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
)
_IBAN_LENGTH = {one[:2]: int(one[2:]) for one in re.findall(r"\w+", _IBAN_LENGTHS)}


def digits(text: str) -> list[int]:
    """The digits of a text as numbers."""
    return [int(character) for character in text if character in "0123456789"]


def cpf(text: str) -> bool:
    """A person's number at the Brazilian revenue."""
    number = digits(text)
    if len(number) != 11 or len(set(number)) == 1:
        return False
    for length in (9, 10):
        weighted = sum(digit * (length + 1 - place) for place, digit in enumerate(number[:length]))
        if weighted * 10 % 11 % 10 != number[length]:
            return False
    return True


def cnpj(text: str) -> bool:
    """A company's number there, with or without letters."""
    characters = [ord(character) - 48 for character in text.upper() if character.isalnum() and character.isascii()]
    if len(characters) != 14 or len(set(characters)) == 1:
        return False
    for length in (12, 13):
        weights = [(length - 1 - place) % 8 + 2 for place in range(length)]
        rest = sum(weight * value for weight, value in zip(weights, characters[:length], strict=True)) % 11
        if (0 if rest < 2 else 11 - rest) != characters[length]:
            return False
    return True


def pis(text: str) -> bool:
    """A worker's number (PIS, PASEP, NIS)."""
    number = digits(text)
    if len(number) != 11 or len(set(number)) == 1:
        return False
    rest = sum(weight * digit for weight, digit in zip((3, 2, 9, 8, 7, 6, 5, 4, 3, 2), number, strict=False)) % 11
    return number[10] == (0 if rest < 2 else 11 - rest)


def rg(text: str) -> bool:
    """An identity card of São Paulo; other states have rules of their own."""
    number = [10 if character in "xX" else int(character) for character in text if character in "0123456789xX"]
    if len(number) != 9 or len(set(number)) == 1:
        return False
    return sum(weight * digit for weight, digit in zip((2, 3, 4, 5, 6, 7, 8, 9, 100), number, strict=True)) % 11 == 0


def card(text: str) -> bool:
    """A payment card: a range that some issuer has, and Luhn's sum."""
    return bool(_ISSUED.fullmatch("".join(one for one in text if one in "0123456789"))) and luhn(text)


def luhn(text: str) -> bool:
    """Twelve to nineteen digits, not all alike, whose sum is Luhn's."""
    number = digits(text)
    if not 12 <= len(number) <= 19 or len(set(number)) == 1:
        return False
    doubled = [digit if place % 2 == 0 else sum(divmod(digit * 2, 10)) for place, digit in enumerate(reversed(number))]
    return sum(doubled) % 10 == 0


def iban(text: str) -> int:
    """How many characters from the beginning are an account number; 0 for none (words may stand right behind it)."""
    wanted = _IBAN_LENGTH.get(text[:2], 0)
    seen, at = "", 0
    while at < len(text) and len(seen) < wanted:
        seen += text[at] if text[at] != " " else ""
        at += 1
    if not wanted or len(seen) != wanted or (at < len(text) and text[at] != " "):
        return 0
    moved = "".join(str(int(character, 36)) for character in seen[4:] + seen[:4])
    return at if int(moved) % 97 == 1 else 0
