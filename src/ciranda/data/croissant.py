"""A version's card as Croissant 1.1 (mlcommons.org/croissant), so that other catalogues and loaders read what ours says.

The card is JSON-LD: what is said of the dataset, where the rows can be had (the export of the REST API, under the policies of
whoever asks), and the fields that hold something, each with its description. The checksum is of the file that this reader would
get, so it is counted by making the file once; above HASHED rows the card says instead that the file is made when it is asked for
(`isLiveDataset`), which the standard demands of a file without a checksum. It is never sent anywhere by itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ciranda.config import Home
from ciranda.data import catalog, entries, exports, reading
from ciranda.data.entries import Entry
from ciranda.data.statistics import Field
from ciranda.data.versions import DatasetVersion
from ciranda.govern.policy import Reader
from ciranda.store.database import Database

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
HASHED = 200_000
FILE, RECORDS = "rows.jsonl", "rows"
SIMPLE = re.compile(r"[A-Za-z0-9.+-]+")
LISTS = ("messages", "tags")
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs",
    "column": "cr:column", "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"}, "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isArray": "cr:isArray", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "name": {"@container": "@language"}, "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator",
    "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
MEANINGS = {
    "messages": "The conversation before the answer: a list of role and content.",
    "completion": "What the model should answer; of plain text, the text.",
    "rejected": "The answer that was not preferred.",
    "language": "The language, as a BCP 47 tag.",
    "group": "What a split must not cut: rows of one template, document or conversation.",
    "split": "train, validation or test.",
    "source": "The source that brought the row.",
    "origin": "Where in the source the row stands.",
    "subject": "The person whom the row is about.",
    "thumb": "1 or -1: somebody called the answer right or wrong.",
    "tags": "Tags of the row.",
}


def card(db: Database, home: Home, version: DatasetVersion, reader: Reader, *, origin: str) -> dict[str, Any]:
    """The card of a version as its reader may have it.

    Args:
        origin: The address of this platform, such as https://ciranda.example.com.

    Raises:
        Forbidden: The dataset is closed to the reader for export.
    """
    entry, said = entries.one(db, version.name), catalog.said(db, version.name)["fields"]
    fields = catalog.figures(db, home, version.ref, reader)
    checksum = _checksum(db, home, version, reader)
    place = f"{origin}/api/v1/datasets/{version.ref}/export?format=jsonl"
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": version.name,
        "description": entry.said.description or f"Rows of {version.name}, version {version.number}.",
        "conformsTo": CONFORMS_TO,
        **_said(entry),
        "url": f"{origin}/datasets/{version.name}/{version.number}",
        "version": f"{version.number}.0.0",
        "datePublished": version.created_at,
        "identifier": version.digest,
        "citeAs": f"{version.name}, version {version.number} ({version.digest})",
        **({} if checksum else {"isLiveDataset": True}),
        **_responsible(version, entry),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": FILE,
                "name": FILE,
                "description": f"{version.rows} rows as JSON lines.",
                "contentUrl": place,
                "encodingFormat": "application/jsonlines",
                **({"sha256": checksum} if checksum else {}),
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": RECORDS,
                "name": RECORDS,
                "description": "One row is one example.",
                "field": [_field(name, one, said.get(one.name, {})) for one in _held(fields) for name in _parts(one)],
            }
        ],
    }


def _said(entry: Entry) -> dict[str, Any]:
    """Owner, licence and keywords, where they are known."""
    told: dict[str, Any] = {}
    if entry.said.owner:
        told["creator"] = {"@type": "sc:Organization", "name": entry.said.owner}
    if licence := entry.said.licence:
        known = SIMPLE.fullmatch(licence) and not licence.startswith("LicenseRef-")
        told["license"] = f"https://spdx.org/licenses/{licence}" if known else licence
    words = [*entry.tags.get("", ()), *entry.terms.get("", ())]
    return {**told, **({"keywords": words} if words else {})}


def _responsible(version: DatasetVersion, entry: Entry) -> dict[str, Any]:
    """What Croissant's vocabulary for responsible use asks: how the data came to be, what for, what is personal in it."""
    sources = ", ".join(sorted(version.counts.get("source", {})))
    personal = [field for field, tags in entry.tags.items() if field and "pii" in tags]
    told = {
        "rai:dataCollection": f"Brought in from: {sources}." if sources else "",
        "rai:dataUseCases": entry.said.purpose,
        "rai:personalSensitiveInformation": ", ".join(personal)
        or ("personal data" if entry.said.sensitivity == "personal" else ""),
    }
    return {name: text for name, text in told.items() if text}


def _held(fields: Sequence[Field] | None) -> list[Field]:
    """The fields that hold something; the fixed ones while nobody counted."""
    if fields is None:
        return [Field(name, 0, 0, 0, True) for name in MEANINGS]
    return [one for one in fields if one.rows > one.empty]


def _checksum(db: Database, home: Home, version: DatasetVersion, reader: Reader) -> str:
    """SHA-256 of the file that the reader would get; empty when it is too long to be made for that."""
    if version.rows > HASHED:
        return ""
    digest = hashlib.sha256()
    rows = reading.batches(db, home, version.ref, reader, columns=reading.TAKEN)
    for piece in exports.written(rows, "jsonl"):
        digest.update(piece)
    return digest.hexdigest()


def _parts(one: Field) -> list[str]:
    """What a field of ours is in the file: each message has two parts, which a loader reads as two lists of the same length."""
    return ["messages.role", "messages.content"] if one.name == "messages" else [one.name]


def _field(name: str, one: Field, said: Mapping[str, Any]) -> dict[str, Any]:
    """One field: where it stands in a line of the file, its type, what it means."""
    column, _, inner = name.partition(".")
    field = {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/{name}",
        "name": name,
        "description": said.get("description") or MEANINGS.get(one.name, "A further field of the source."),
        "dataType": "sc:Integer" if one.name == "thumb" else "sc:Float" if one.numbers else "sc:Text",
        "source": {
            "fileObject": {"@id": FILE},
            "extract": {"column": column},
            **({"transform": {"jsonPath": inner}} if inner else {}),
        },
    }
    return field | ({"isArray": True, "arrayShape": "-1"} if column in LISTS else {})
