"""Keys, roles and rights. Authentication is always on; what is not granted is denied.

A key is `cir_` and 32 random bytes (`cirp_` when it is a public one, see `public`); only its SHA-256 is stored (a random secret
needs no slow hash), so a stolen database opens nothing. A role is a set of rights, optionally limited to named models. The
secret is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ciranda.config.bounds import Bounds
from ciranda.errors import Forbidden, Invalid, NotFound, Unauthenticated
from ciranda.govern import audit
from ciranda.govern import public as publics
from ciranda.govern.public import Public
from ciranda.store import clock, ids
from ciranda.store.database import Database, metadata

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("tenant", sa.String(100), nullable=False),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("public", sa.JSON(none_as_null=True)),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("revoked_at", sa.String(32)),
    sa.Column("limits", sa.JSON, nullable=False),
)

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VIEW = frozenset({"view"})
CHAT = frozenset({"chat", "feedback"})
LABEL = VIEW | CHAT | {"label"}
ENGINEER = LABEL | {"data", "train", "evaluate", "plan", "apply", "rollback", "alert"}
APPROVER = LABEL | {"approve", "promote", "rollback", "alert"}
ADMIN = ENGINEER | APPROVER | {"keys", "audit", "settings"}
ROLES: dict[str, frozenset[str]] = {
    publics.ROLE: frozenset({"feedback"}),
    "client": CHAT,
    "viewer": VIEW | {"feedback"},
    "labeller": LABEL,
    "engineer": ENGINEER | {"audit"},
    "approver": APPROVER | {"audit"},
    "admin": ADMIN,
}


@dataclass(frozen=True)
class Principal:
    """Who is asking: a key, its role, and the models it is limited to (`*` is all of them)."""

    key: str
    name: str
    role: str
    tenant: str = "default"
    models: tuple[str, ...] = ("*",)

    def may(self, right: str, model: str = "") -> bool:
        """Whether the role has the right, and the key reaches the model."""
        return right in ROLES[self.role] and (not model or "*" in self.models or model in self.models)


def digest_of(secret: str) -> str:
    """What is stored and compared in place of the secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(
    conn: sa.Connection,
    name: str,
    *,
    role: str,
    actor: str,
    models: Sequence[str] = ("*",),
    tenant: str = "default",
    public: Public | None = None,
    limits: Bounds | None = None,
) -> tuple[Principal, str]:
    """Issue a key; the second value is the secret, which is nowhere else.

    Args:
        public: The bounds of a public key; the role `feedback` needs them, no other role takes them.

    Raises:
        Invalid: An unknown role, an empty name, or a public key that is too wide.
    """
    if role not in ROLES:
        raise Invalid(f"no role {role!r}", where="role", remedy=f"roles are: {', '.join(ROLES)}")
    if not name.strip():
        raise Invalid("a key needs a name", where="name", remedy="name the app or person that will use it")
    _check_public(role, models, public)
    if not TENANT.fullmatch(tenant):
        raise Invalid(f"no name for a tenant: {tenant[:100]!r}", where="tenant", remedy="letters, digits, . _ - only")
    bounds = limits.to_dict() if limits else {}
    secret = f"{publics.PREFIX if public else 'cir_'}{secrets.token_urlsafe(32)}"
    principal = Principal(ids.new("key"), name.strip(), role, tenant, tuple(models))
    conn.execute(
        keys.insert().values(
            id=principal.key, name=principal.name, digest=digest_of(secret), role=role, tenant=tenant,
            models=list(models), public=asdict(public) if public else None, created_at=clock.iso(), created_by=actor,
            revoked_at=None, limits=bounds,
        )
    )  # fmt: skip
    audit.record(
        conn, actor=actor, action="key.created", subject=principal.key,
        detail={
            "name": principal.name, "role": role, "models": list(models), "tenant": tenant, "limits": bounds,
            **({"public": asdict(public)} if public else {}),
        },
    )  # fmt: skip
    return principal, secret


def _check_public(role: str, models: Sequence[str], public: Public | None) -> None:
    if (role == publics.ROLE) != (public is not None):
        raise Invalid(
            f"a key of the role {role} {'needs' if public is None else 'takes no'} origins", where="origins",
            remedy=f"name origins for the role {publics.ROLE}, and for no other",
        )  # fmt: skip
    if public is not None and "*" in models:
        raise Invalid(
            "a public key is for named models", where="models", remedy="name each model whose answers the page shows"
        )


def limit(conn: sa.Connection, key: str, limits: Bounds, *, actor: str) -> None:
    """Put other bounds in place of a key's. Raises NotFound when there is none of that id that is still open."""
    row = conn.execute(sa.select(keys.c.limits).where(keys.c.id == key, keys.c.revoked_at.is_(None))).first()
    if row is None:
        raise NotFound(f"no open key {key!r}", where="keys", remedy="`ciranda keys` lists them")
    conn.execute(keys.update().where(keys.c.id == key).values(limits=limits.to_dict()))
    audit.record(
        conn, actor=actor, action="key.limited", subject=key, detail={"before": row.limits, "limits": limits.to_dict()}
    )


def revoke(conn: sa.Connection, key: str, *, actor: str) -> None:
    """Close a key for good. Raises NotFound when there is none of that id that is still open."""
    changed = conn.execute(
        keys.update().where(keys.c.id == key, keys.c.revoked_at.is_(None)).values(revoked_at=clock.iso())
    )
    if not changed.rowcount:
        raise NotFound(f"no open key {key!r}", where="keys", remedy="`ciranda keys` lists them")
    audit.record(conn, actor=actor, action="key.revoked", subject=key)


def check(database: Database, secret: str) -> Principal:
    """The principal behind a secret.

    Raises:
        Unauthenticated: Nobody issued it, or it was revoked; the message does not say which.
    """
    with database.reading() as conn:
        row = conn.execute(
            sa.select(keys).where(keys.c.digest == digest_of(secret), keys.c.revoked_at.is_(None))
        ).first()
    if row is None:
        raise Unauthenticated(
            "this key is unknown or revoked",
            where="Authorization: Bearer …",
            remedy="use the key that `ciranda up` printed at its first start, or ask an admin for one",
        )
    return Principal(row.id, row.name, row.role, row.tenant, tuple(row.models))


def require(principal: Principal, right: str, model: str = "") -> None:
    """Let it pass or raise Forbidden with who could grant it."""
    if not principal.may(right, model):
        holders = ", ".join(role for role, rights in ROLES.items() if right in rights)
        scope = f" on {model}" if model else ""
        raise Forbidden(
            f"key {principal.name!r} ({principal.role}) may not {right}{scope}",
            where=f"models of this key: {', '.join(principal.models)}",
            remedy=f"ask an admin for a key with one of the roles: {holders}",
        )


def listing(database: Database) -> list[dict[str, Any]]:
    """All keys, newest first, without digests."""
    columns = [column for column in keys.c if column.name != "digest"]
    with database.reading() as conn:
        return [dict(row._mapping) for row in conn.execute(sa.select(*columns).order_by(keys.c.created_at.desc()))]


def for_gateway(database: Database) -> dict[str, dict[str, object]]:
    """Open keys by digest, in the shape of the routing snapshot."""
    with database.reading() as conn:
        rows = conn.execute(sa.select(keys).where(keys.c.revoked_at.is_(None)).order_by(keys.c.id)).all()
    return {
        row.digest: {"id": row.id, "name": row.name, "tenant": row.tenant, "models": row.models, "role": row.role}
        | ({"public": row.public} if row.public else {})
        | ({"bounds": row.limits} if row.limits else {})
        for row in rows
    }
