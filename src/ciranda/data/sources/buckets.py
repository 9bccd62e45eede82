"""Objects of an S3 bucket: new ones, and those whose tag changed, are fetched to disk and read like files.

The only file that names `obstore`. What was read is remembered by the object's ETag and size, so that a listing tells what is
new."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ciranda.config.source import Bucket, Source
from ciranda.data import files
from ciranda.data.sources.found import BEGINNING, Desk, Item
from ciranda.data.sources.pages import secret
from ciranda.errors import Failed, Unavailable
from ciranda.govern import outgoing
from ciranda.store import clock


def items(source: Source, desk: Desk) -> Iterator[Item]:
    """The records of objects that are new, changed, or asked for again."""
    assert source.s3 is not None
    parts = urlsplit(source.s3.url)
    pattern = parts.path.lstrip("/") or "*"
    store = _store(source.s3, parts.netloc, desk)
    for found in sorted(_listing(store, pattern, desk), key=lambda one: str(one["path"])):
        name, mark = f"s3://{parts.netloc}/{found['path']}", f"{found['size']}:{found['e_tag']}"
        if _wanted(name, mark, found, desk):
            desk.place.marks[name] = mark
            yield from _read(store, str(found["path"]), name, desk)


def _wanted(name: str, mark: str, found: dict[str, Any], desk: Desk) -> bool:
    if desk.again or desk.marks.get(name) != mark:
        return True
    since = desk.window.since
    return bool(since) and since != BEGINNING and found["last_modified"] >= clock.parse(since)


def _store(bucket: Bucket, name: str, desk: Desk) -> Any:
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise Unavailable("obstore is not installed", where=desk.label, remedy='install "ciranda[sources]"') from error
    chosen: dict[str, Any] = {"region": bucket.region, "skip_signature": bucket.key is None}
    if bucket.key and bucket.secret:
        chosen["access_key_id"] = secret(bucket.key, desk.label)
        chosen["secret_access_key"] = secret(bucket.secret, desk.label)
    if bucket.endpoint:
        parts = urlsplit(bucket.endpoint)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        outgoing.address_of(host, port, allow_private=desk.inputs.door.opens(host, port), where=desk.label)
        chosen["endpoint"] = bucket.endpoint
    plain = bucket.endpoint.startswith("http:")
    retries: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
    return S3Store(name, client_options={"allow_http": plain}, retry_config=retries, **chosen)


def _listing(store: Any, pattern: str, desk: Desk) -> Iterator[dict[str, Any]]:
    import obstore
    from obstore.exceptions import BaseError

    prefix = pattern[: min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))]
    folder = prefix.rpartition("/")[0]
    try:
        for page in obstore.list(store, prefix=folder or None):
            yield from (dict(one) for one in page if _matches(str(one["path"]), pattern))
    except (BaseError, OSError) as error:
        raise _trouble(error, desk.label) from error


def _matches(path: str, pattern: str) -> bool:
    """Like a glob of files: `*` stays in its folder, `**` does not. A pattern that ends with / means all below it."""
    if pattern.endswith("/"):
        return path.startswith(pattern)
    if "**" in pattern:
        return fnmatchcase(path, pattern.replace("**/", "*"))
    wanted, given = PurePosixPath(pattern).parts, PurePosixPath(path).parts
    return len(wanted) == len(given) and all(fnmatchcase(one, two) for one, two in zip(given, wanted, strict=True))


def _read(store: Any, path: str, name: str, desk: Desk) -> Iterator[Item]:
    import obstore
    from obstore.exceptions import BaseError

    desk.inputs.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=desk.inputs.scratch, suffix=PurePosixPath(path).suffix) as file:
        try:
            for piece in obstore.get(store, path).stream():
                file.write(piece)
                desk.tally.add(size=len(piece))
        except (BaseError, OSError) as error:
            raise _trouble(error, name) from error
        file.flush()
        desk.tally.add(pages=1)
        for origin, record in files.records(Path(file.name), name):
            yield Item(origin, record)


def _trouble(error: Exception, where: str) -> Failed | Unavailable:
    said = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    if isinstance(error, FileNotFoundError | PermissionError) or re.search(r"status code: 40[0134]\b", said):
        return Failed(f"the store says: {said}", where=where, remedy="check bucket, key and secret")
    return Unavailable(f"the store says: {said}", where=where, remedy="it is tried again when the source is due")
