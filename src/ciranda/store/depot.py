"""A place that this machine and others both reach: what a job elsewhere reads lies there, and what it made comes back from there.

    file:/shared/ciranda     a folder that all of them mount under the same path
    s3://bucket/prefix       a bucket; which server and whose key is said beside it

Names are relative, with slashes; no name leads out. A file is whole or absent in both: a folder's is written beside and renamed, a
bucket's appears when its last part is there. Nothing here needs conditional writes, since each name has one writer.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from ciranda.errors import Failed, Invalid, NotFound, StorageFull
from ciranda.store import files
from ciranda.store.objects import Bucket

FOLDER, BUCKET = "file:", "s3://"


class Depot(Protocol):
    """Where two machines meet."""

    @property
    def url(self) -> str: ...

    def get(self, name: str) -> bytes | None: ...

    def put(self, name: str, content: bytes) -> None: ...

    def send(self, name: str, path: Path) -> None: ...

    def fetch(self, name: str, path: Path) -> None: ...

    def names(self, prefix: str) -> list[str]: ...

    def remove(self, prefix: str) -> None: ...


@dataclass(frozen=True)
class Shared:
    """A folder that several machines mount."""

    root: Path

    @property
    def url(self) -> str:
        return f"{FOLDER}{self.root}"

    def get(self, name: str) -> bytes | None:
        """The content of a file, or None."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Write a file, or write it over, whole."""
        path = self.path(name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_atomic(path, content)
        except OSError as error:
            raise self._trouble(error) from error

    def send(self, name: str, path: Path) -> None:
        """Copy a file there."""
        to = self.path(name)
        beside = to.with_name(f".{to.name}.sent")
        try:
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(path, beside)
            beside.replace(to)
        except OSError as error:
            raise self._trouble(error) from error

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file from there. Raises NotFound."""
        try:
            shutil.copyfile(self.path(name), path)
        except FileNotFoundError as error:
            raise NotFound(f"no file {name}", where=self.url, remedy="start the work again") from error
        except OSError as error:
            raise self._trouble(error) from error

    def names(self, prefix: str) -> list[str]:
        """The files below a folder, sorted, each with its whole name."""
        found = (path for path in self.path(prefix).rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def remove(self, prefix: str) -> None:
        """Delete a folder and what lies in it."""
        shutil.rmtree(self.path(prefix), ignore_errors=True)

    def path(self, name: str) -> Path:
        """Where a name lies. Raises Invalid when it would lead out."""
        return self.root / safe(name)

    def _trouble(self, error: OSError) -> Failed | StorageFull:
        told = f"the shared folder did not do it: {error.strerror or error}"
        if error.errno is not None and error.errno in files.FULL:
            return StorageFull(told, where=self.url, remedy="free some of its disk, then start it again")
        return Failed(told, where=self.url, remedy="mount it, writable, under this path here and where jobs run")


def safe(name: str) -> str:
    """The name, once it is sure that it stays below where it is put. Raises Invalid."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise Invalid(f"{name!r} leads out of its place", where="depot", remedy="use a relative name without `..`")
    return name


def at(url: str, *, endpoint: str = "", region: str = "us-east-1", credentials: str = "") -> Depot:
    """The depot at an address. Raises Invalid when it is none."""
    url = url.rstrip("/")
    if url.startswith(FOLDER):
        root = Path(url.removeprefix(FOLDER).replace("//", "/"))
        if root.is_absolute() and len(root.parts) > 1:
            return Shared(root)
    elif url.startswith(BUCKET) and len(url) > len(BUCKET):
        return Bucket(url, endpoint, region, credentials)
    raise Invalid(
        f"{url!r} is no place for jobs", where="jobs_url", remedy="write file:/shared/folder or s3://bucket/prefix"
    )
