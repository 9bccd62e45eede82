"""Keys and passwords in text: the shapes that well-known issuers give them, and what is assigned to a name like `password`.

Shapes: AWS, GitHub, GitLab, Slack, Google, Stripe, OpenAI, Anthropic, Hugging Face, SendGrid, Twilio, npm, PyPI, private keys in
PEM, JSON web tokens, addresses with a password, and the keys of this platform. What a shape leaves open must be random
(Shannon entropy in bits for a character), so that a placeholder such as `AKIAXXXXXXXXXXXXXXXX` or `<your key>` is not one.
Why not the library `detect-secrets`: on lines of prose it took ordinary words for high entropy (12 findings in "hello there, turn
on the light in the kitchen") at 2,550 texts a second; these patterns take none, at some hundred thousand.
Time grows as the text does: nothing is searched where the issuer's prefix does not stand.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from ciranda.govern.guard import Finding

LONGEST = 8192  # characters of a private key, the longest of them


@dataclass(frozen=True)
class Shape:
    """One issuer's shape. `signs`: one of these stands in every text that has one; `bits`: least entropy of group 1."""

    kind: str
    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    bits: float = 0.0


def _shape(kind: str, signs: str, pattern: str, bits: float = 3.0, flags: int = 0) -> Shape:
    return Shape(kind, tuple(signs.split("|")), re.compile(pattern, flags), bits)


_NAMES = (
    r"password|passwd|passphrase|secret|senha|api[_ -]?key|apikey|access[_ -]?key|auth[_ -]?token|access[_ -]?token"
    r"|client[_ -]?secret|private[_ -]?key|chave[_ -]?(?:de[_ -]?)?api|token"
)

_KEY = r"[A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----"
_PEM = rf"(-----BEGIN {_KEY}[^-]{{0,{LONGEST}}}(?:-----END {_KEY})?)"
_SLACK = r"\bxox[abeoprs]-([\w-]{10,250})|hooks\.slack\.com/services/(T\w{6,12}/B\w{6,12}/\w{20,32})"
_ASSIGNED = rf"(?<![A-Za-z])(?:{_NAMES})[\"']?\s{{0,3}}(?::=|=>|=|:)\s{{0,3}}[\"']?([^\s\"'<>{{}}\[\],;]{{8,200}})"

SHAPES: tuple[Shape, ...] = (
    _shape("private-key", "-----BEGIN", _PEM, 0.0),
    _shape("aws", "AKIA|ASIA|ABIA|ACCA", r"\b(?:AKIA|ASIA|ABIA|ACCA)([A-Z2-7]{16})\b", 2.5),
    _shape("github", "gh|github_pat_", r"\b(?:gh[pousr]_([A-Za-z0-9]{36,255})|github_pat_\w{22}_(\w{59}))\b"),
    _shape("gitlab", "glpat-", r"\bglpat-([\w-]{20,64})\b"),
    _shape("slack", "xox|hooks.slack.com", _SLACK, 2.5),
    _shape("google", "AIza|ya29.|GOCSPX-", r"\bAIza([\w-]{35})(?![\w-])|\bya29\.([\w-]{20,300})|\bGOCSPX-([\w-]{28})(?![\w-])"),
    _shape("stripe", "k_live_|k_test_", r"\b[rs]k_(?:live|test)_([A-Za-z0-9]{16,247})\b"),
    _shape("openai", "sk-", r"\bsk-(?:proj-|svcacct-|admin-)?([\w-]{20,200})(?![\w-])", 3.5),
    _shape("hugging-face", "hf_", r"\bhf_([A-Za-z0-9]{34,40})\b"),
    _shape("sendgrid", "SG.", r"\bSG\.([\w-]{22}\.[\w-]{43})(?![\w-])"),
    _shape("twilio", "SK|AC", r"\b(?:SK|AC)([0-9a-f]{32})\b"),
    _shape("npm", "npm_", r"\bnpm_([A-Za-z0-9]{36})\b"),
    _shape("pypi", "pypi-", r"\bpypi-([\w-]{50,400})(?![\w-])"),
    _shape("ciranda", "cir_", r"\bcir_([\w-]{16,200})(?![\w-])"),
    _shape("jwt", "eyJ", r"\beyJ([\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,1000})(?![\w-])"),
    _shape("address", "://", r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@<>]{1,100}:([^\s/:@<>*]{3,100})@[\w.-]{1,250}", 1.5),
    _shape("assigned", "=|:", _ASSIGNED, 3.0, re.I),
)  # fmt: skip

KINDS = tuple(shape.kind for shape in SHAPES)


def find_secrets(text: str) -> list[Finding]:
    """Secrets in a text, left to right, without overlaps (the earlier shape of the list wins). Kinds are those of KINDS."""
    found: list[Finding] = []
    taken = bytearray(len(text))
    for shape in SHAPES:
        if not any(sign in text for sign in shape.signs):
            continue
        for match in shape.pattern.finditer(text):
            open_part = next((part for part in match.groups() if part), "")
            start, end = match.span(match.lastindex or 0) if shape.kind in ("assigned", "address") else match.span()
            if taken.find(1, start, end) < 0 and _random(open_part, shape):
                taken[start:end] = b"\x01" * (end - start)
                found.append(Finding(shape.kind, start, end))
    return sorted(found, key=lambda finding: finding.start)


def mask(text: str) -> tuple[str, list[Finding]]:
    """The text with each secret replaced by `[secret:kind]`, and the findings."""
    findings, pieces, at = find_secrets(text), [], 0
    for finding in findings:
        pieces += [text[at : finding.start], f"[secret:{finding.kind}]"]
        at = finding.end
    return "".join([*pieces, text[at:]]), findings


def entropy(text: str) -> float:
    """Shannon entropy of a text in bits for a character: 0 for one repeated sign, 6 for 64 signs equally often."""
    counts, size = Counter(text), len(text)
    return -sum(count / size * math.log2(count / size) for count in counts.values()) if size else 0.0


def _random(text: str, shape: Shape) -> bool:
    if shape.kind == "assigned" and not _mixed(text):
        return False
    return entropy(text[:512]) >= shape.bits


def _mixed(text: str) -> bool:
    """Letters together with digits or signs: what is assigned to a password's name is often a word of prose or a variable."""
    kinds = (
        any(one.islower() for one in text),
        any(one.isupper() for one in text),
        any(one.isdigit() for one in text),
        any(not one.isalnum() and one not in "._-()/" for one in text),
    )
    return sum(kinds) >= 2 and (kinds[2] or kinds[3]) and not text.startswith(("$", "%", "os.", "env", "process."))
