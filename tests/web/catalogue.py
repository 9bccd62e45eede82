"""Brings the message catalogues up to date with the sources: `PYTHONPATH=src:tests python -m web.catalogue`.

Messages are found by Babel in templates and Python; a translation that is still used is kept, a new message comes in empty,
one that went leaves. `test_words` fails while any is empty, so nothing is ever shown half translated.
"""

from __future__ import annotations

import io
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

WEB = Path(__file__).parents[2] / "src" / "ciranda" / "web"
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
OPTIONS = {"**.py": {}, "templates/**.html": {"extensions": "jinja2.ext.i18n,jinja2.ext.do"}}


def extracted() -> Catalog:
    """Every message of the sources, without places, so that moving code changes no catalogue."""
    catalogue = Catalog(project="Ciranda", copyright_holder="the Ciranda authors", charset="utf-8")
    for _place, _line, message, _comments, context in extract_from_dir(WEB, METHODS, OPTIONS):
        catalogue.add(message, context=context)
    return catalogue


def catalogues() -> list[Path]:
    return sorted((WEB / "locale").rglob("*.po"))


def updated(path: Path) -> Catalog:
    """The catalogue of a language, with exactly the messages that the sources have."""
    known = read_po(io.BytesIO(path.read_bytes())) if path.exists() else Catalog(locale=path.parent.parent.name)
    fresh = Catalog(
        locale=path.parent.parent.name,
        header_comment="# The messages of the pages. `python -m web.catalogue` keeps them in step with the sources.",
        project="Ciranda",
        version="1",
        msgid_bugs_address="see CONTRIBUTING",
        creation_date=known.creation_date,
        revision_date=known.creation_date,
        last_translator="the Ciranda authors",
        language_team="the Ciranda authors",
        charset="utf-8",
        fuzzy=False,
    )
    for message in extracted():
        if message.id:
            before = known.get(message.id if isinstance(message.id, str) else message.id[0])
            fresh.add(message.id, before.string if before else None, flags=message.flags)
    return fresh


def main() -> None:
    for path in catalogues() or [WEB / "locale" / "pt_BR" / "LC_MESSAGES" / "ciranda.po"]:
        fresh = updated(path)
        with path.open("wb") as file:
            write_po(file, fresh, width=120, omit_header=False, sort_output=True, no_location=True)
        empty = [message.id for message in fresh if message.id and not any(message.string or ())]
        print(f"{path}: {len(fresh)} messages, {len(empty)} without a translation")


if __name__ == "__main__":
    main()
