"""Every error that Ciranda raises on purpose, as one tree.

    CirandaError
    ├── Invalid            400  the input is wrong: a file, a key, a row, a request
    ├── Unauthenticated    401  no key, or one that nobody issued
    ├── Forbidden          403  a known caller without the right
    ├── NotFound           404  a name that nothing carries
    ├── Conflict           409  true elsewhere already: a second `up`, a port, a running turn
    ├── TooLarge           413  over a bound that protects the platform
    ├── Refused            422  a gate, a check or a policy said no
    ├── LimitReached       429  a rate, a budget, a queue bound
    ├── Failed             500  a job or a tool ended badly
    ├── Unavailable        503  a part is not up (yet); trying again helps
    └── StorageFull        507  the disk, or a quota on it

A class knows its HTTP status, the command line's exit code and whether a retry can help. An instance says what was wrong,
where, and what to do next: `where` and `remedy` are not decoration, a test walks the tree and the raise sites.
"""

from __future__ import annotations

from typing import ClassVar


class CirandaError(Exception):
    """The root. Raise a subclass.

    Args:
        message: What was wrong, with the offending value.
        where: The file, line, key, table or address it came from.
        remedy: What to do next, ideally the exact command.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    kind: ClassVar[str] = "api_error"
    param: str | None = None  # the field that is wrong, where the answer has a place for it

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.message]
        if self.where:
            parts.append(f"where: {self.where}")
        if self.remedy:
            parts.append(f"do: {self.remedy}")
        return "\n  ".join(parts)

    def to_dict(self) -> dict[str, str | int | bool]:
        """The error as the REST API sends it."""
        return {
            "type": self.kind,
            "code": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "remedy": self.remedy,
            "retry": self.retry,
        }


class Invalid(CirandaError):
    """The input is wrong; the same call will fail again."""

    status, exit_code, kind = 400, 2, "invalid_request_error"


class Unauthenticated(CirandaError):
    """No key, or one that nobody issued."""

    status, exit_code, kind = 401, 3, "authentication_error"


class Forbidden(CirandaError):
    """A known caller without the right."""

    status, exit_code, kind = 403, 3, "permission_error"


class NotFound(CirandaError):
    """A name that nothing carries."""

    status, exit_code, kind = 404, 4, "not_found_error"


class Conflict(CirandaError):
    """Something that already is stands in the way."""

    status, exit_code, kind = 409, 5, "conflict_error"


class TooLarge(CirandaError):
    """Over a bound that protects the platform."""

    status, exit_code, kind = 413, 2, "invalid_request_error"


class Refused(CirandaError):
    """A gate, a check or a policy said no."""

    status, exit_code, kind = 422, 6, "refused_error"


class LimitReached(CirandaError):
    """A rate, a budget or a queue bound; later it may work."""

    status, exit_code, retry, kind = 429, 7, True, "rate_limit_error"


class Failed(CirandaError):
    """A job or a tool ended badly."""

    status, exit_code, kind = 500, 1, "api_error"


class Unavailable(CirandaError):
    """A part is not up (yet)."""

    status, exit_code, retry, kind = 503, 8, True, "unavailable_error"


class StorageFull(CirandaError):
    """The disk, or a quota on it, is full."""

    status, exit_code, retry, kind = 507, 9, True, "storage_full_error"
