"""An object store for what outgrew the machine: datasets under an `s3://` address, in a bucket that keeps its word.

Versions are safe there only when the server honours conditional writes: some that speak S3 ignore the condition, and then of two
writers one is lost without an error (measured). So `proved` writes an object that must not exist twice, and one with a stale tag;
a bucket that accepts either is refused before a row is written. Credentials are given by reference and never stored.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ciranda.config import Settings, secret
from ciranda.errors import Failed, Invalid, NotFound, Refused, Unavailable


@dataclass(frozen=True)
class Bucket:
    """A place in an object store: `url` is `s3://bucket/prefix`."""

    url: str
    endpoint: str = ""
    region: str = "us-east-1"
    credentials: str = field(default="", repr=False)

    def options(self) -> dict[str, str]:
        """As Lance takes them. Raises NotFound when the credentials are not where the setting says."""
        told = {"region": self.region, "aws_conditional_put": "etag"}
        if self.endpoint:
            told |= {"endpoint": self.endpoint, "allow_http": str(self.endpoint.startswith("http://")).lower()}
        if self.credentials:
            told |= dict(zip(("access_key_id", "secret_access_key"), self._pair(), strict=True))
        return told

    def get(self, name: str) -> bytes | None:
        """The content of an object, or None."""
        from obstore import get

        try:
            return bytes(get(self._store, name).bytes())
        except FileNotFoundError:
            return None
        except _errors() as error:
            raise self._trouble(error) from error

    def put(self, name: str, content: bytes) -> None:
        """Write an object, or write it over."""
        from obstore import put

        try:
            put(self._store, name, content)
        except _errors() as error:
            raise self._trouble(error) from error

    def send(self, name: str, path: Path) -> None:
        """Write a file as an object, in parts when it is large."""
        from obstore import put

        try:
            with path.open("rb") as file:
                put(self._store, name, file)
        except _errors() as error:
            raise self._trouble(error) from error

    def fetch(self, name: str, path: Path) -> None:
        """Read an object into a file. Raises NotFound."""
        from obstore import get

        try:
            with path.open("wb") as file:
                for piece in get(self._store, name).stream():
                    file.write(piece)
        except FileNotFoundError as error:
            raise NotFound(f"no object {name}", where=self.url, remedy="start the work again") from error
        except _errors() as error:
            raise self._trouble(error) from error

    def names(self, prefix: str) -> list[str]:
        """The objects below a prefix, sorted, each with its whole name."""
        from obstore import list as listing

        try:
            return sorted(str(one["path"]) for page in listing(self._store, prefix=prefix) for one in page)
        except _errors() as error:
            raise self._trouble(error) from error

    def remove(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        from obstore import delete

        try:
            if found := self.names(prefix):
                delete(self._store, found)
        except FileNotFoundError:
            return
        except _errors() as error:
            raise self._trouble(error) from error

    def proved(self) -> Bucket:
        """The bucket, after it refused two writes that it must refuse. Raises Refused, Unavailable."""
        from obstore import delete, put
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        name, kept = f".ciranda-{os.urandom(8).hex()}", []
        try:
            first = put(self._store, name, b"first", mode="create")
            for mode, promise in (("create", "put-if-absent"), ({"e_tag": '"stale"'}, "put-if-match")):
                try:
                    put(self._store, name, b"second", mode=mode)  # type: ignore[arg-type]
                    kept.append(promise)
                except (AlreadyExistsError, PreconditionError):
                    continue
            if not kept:
                put(self._store, name, b"third", mode={"e_tag": first["e_tag"] or ""})
        except _errors() as error:
            raise self._trouble(error) from error
        with suppress(*_errors()):
            delete(self._store, name)
        if kept:
            raise Refused(
                f"the object store ignores {' and '.join(kept)}, so of two writers one would be lost without an error",
                where=self.url,
                remedy="use a server that honours conditional writes, such as AWS S3 or SeaweedFS",
            )
        return self

    @cached_property
    def _store(self) -> Any:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise Unavailable(
                "a place on S3 needs obstore", where=self.url, remedy='pip install "ciranda[s3]"'
            ) from error
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        told: dict[str, Any] = {"region": self.region, "skip_signature": not self.credentials}
        if self.endpoint:
            told["endpoint"] = self.endpoint
        if self.credentials:
            told["access_key_id"], told["secret_access_key"] = self._pair()
        plain = {"allow_http": True} if self.endpoint.startswith("http://") else {}
        return S3Store(bucket, prefix=prefix or None, client_options=plain, **told)  # type: ignore[arg-type]

    def _pair(self) -> tuple[str, str]:
        identifier, _, word = (secret(self.credentials) or "").partition(":")
        if not word:
            raise NotFound(
                f"no `key id:secret` at {self.credentials}",
                where="setting s3_credentials",
                remedy="put both into the file or variable, with a colon between, readable by Ciranda alone",
            )
        return identifier, word

    def _trouble(self, error: Exception) -> Failed | Unavailable:
        told = f"the object store did not do it: {str(error)[:300]}"
        if "Unauthenticated" in type(error).__name__ or "PermissionDenied" in type(error).__name__:
            return Failed(told, where=self.url, remedy="correct the setting s3_credentials")
        return Unavailable(
            told, where=self.url, remedy="start the server, or correct the settings s3_endpoint and s3_region"
        )


def bucket(chosen: Settings) -> Bucket | None:
    """The bucket that the settings name for datasets; None when they lie in the home. It is proved once per process."""
    if not chosen.datasets_url:
        return None
    return _proved(chosen.datasets_url.rstrip("/"), chosen.s3_endpoint, chosen.s3_region, chosen.s3_credentials)


@lru_cache(16)
def _proved(url: str, endpoint: str, region: str, credentials: str) -> Bucket:
    if not url.startswith("s3://") or len(url) < len("s3://a"):
        raise Invalid(f"{url!r} is no bucket", where="setting datasets_url", remedy="write it as s3://bucket/prefix")
    return Bucket(url, endpoint, region, credentials).proved()


def _errors() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError

    return (BaseError, OSError, ValueError)
