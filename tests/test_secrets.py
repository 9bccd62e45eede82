"""Secrets: the shapes of well-known issuers are found, placeholders and prose are not."""

from __future__ import annotations

import time

import pytest

from ciranda.govern import secrets

KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("use AKIA" + "Q3EGRZ7KX2VN5TLD for it", "use [secret:aws] for it"),
        ("ghp_" + "x7Kd93mQpZ2vLr8TnB4wYc6HsJ1fGa5RtU0e", "[secret:github]"),
        ("xoxb-" + "123456789012-abcDEF456ghi", "[secret:slack]"),
        ("AIza" + "SyD3kf9s8d7f6g5h4j3k2l1m0n9b8v7c6x5", "[secret:google]"),
        ("sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc", "[secret:stripe]"),
        ("cir_" + "k3_9fJx2LmQpRs7TuVwYz", "[secret:ciranda]"),
        ("eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9Pl", "[secret:jwt]"),
        (f"-----BEGIN RSA PRIVATE KEY-----\n{KEY}\n-----END RSA PRIVATE KEY----- then", "[secret:private-key] then"),
        ("postgres://app:" + "s3cr3t!9@db.example.org/x", "postgres://app:[secret:address]@db.example.org/x"),
        ("senha: Tr0ub4dor&3x", "senha: [secret:assigned]"),
        ('api_key = "9f8e7d6c5b4a39281706"', 'api_key = "[secret:assigned]"'),
        ("AKIAXXXXXXXXXXXXXXXX is a placeholder", "AKIAXXXXXXXXXXXXXXXX is a placeholder"),
        ("password: please reset it", "password: please reset it"),
        ("api_key = os.environ['KEY']", "api_key = os.environ['KEY']"),
        ("the token is valid for the light in the kitchen", "the token is valid for the light in the kitchen"),
        ("see https://example.org:8080/a@b", "see https://example.org:8080/a@b"),
    ],
)
def test_secrets_are_named_by_their_issuer(text: str, masked: str) -> None:
    once = secrets.mask(text)[0]
    assert once == masked
    assert secrets.mask(once)[0] == masked


@pytest.mark.parametrize(
    "piece", ["password:", "eyJa.", "-----BEGIN ", "://a:b", "sk-", "cir_", "xoxb-1", "AKIA", "token=a"]
)
def test_time_grows_as_the_text_does(piece: str) -> None:
    def seconds(length: int) -> float:
        began = time.process_time()
        secrets.find_secrets((piece * length)[:length])
        return time.process_time() - began

    assert seconds(80_000) < 12 * max(seconds(20_000), 0.01)
