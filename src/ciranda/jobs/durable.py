"""Durable workflows on DBOS Transact, which is named in this file alone.

What it gives: each step's result is committed, a kill at any point resumes at the first step without one, nothing committed
runs twice. What experience added, and this file enforces:
- only the leader runs workflows, always under one executor id; who leads holds a lock for as long as it lives;
- its database is in WAL mode, with our engine object; values are JSON, never pickle; the application version is fixed,
  since an automatic one leaves running workflows stranded after an upgrade;
- ids are the caller's and deterministic: starting the same id twice is one workflow;
- a released workflow body is never edited: `turn_v2` stands beside it.
A step may run twice when a kill falls between its effect and its commit, so effects outside carry idempotency keys.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID, StepOptions, WorkflowHandle
from dbos._error import DBOSMaxStepRetriesExceeded

from ciranda import errors
from ciranda.errors import CirandaError, Conflict, Failed
from ciranda.store.database import tune

Value = TypeVar("Value")
APPLICATION = "ciranda"
VERSION = "1"
EXECUTOR = "leader"
ATTEMPTS = 8  # of a step whose error says that trying again helps: with doubling pauses, some two minutes
ENDED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}


class Steps(Protocol):
    """What a workflow body is given: `step` commits the result of a function under a name."""

    def step(self, name: str, function: Callable[..., Value], *arguments: Any) -> Value: ...


Body = Callable[[Steps, dict[str, Any]], dict[str, Any]]


class Json(Serializer):
    """JSON for inputs and results; errors keep their class name, message, place and remedy."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, sort_keys=True, default=_encode)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data, object_hook=_decode)

    def name(self) -> str:
        return "ciranda_json"


def _encode(value: Any) -> Any:
    if isinstance(value, CirandaError):
        return {"__error__": [type(value).__name__, value.message, value.where, value.remedy]}
    if isinstance(value, BaseException):
        return {"__error__": ["Failed", f"{type(value).__name__}: {value}", "", ""]}
    raise TypeError(f"a step returned {type(value).__name__}, which is no JSON: {value!r}")


def _decode(value: dict[str, Any]) -> Any:
    if "__error__" not in value:
        return value
    name, message, where, remedy = value["__error__"]
    return getattr(errors, name, Failed)(message, where=where, remedy=remedy)


class Leader:
    """The right to run workflows, schedules and reconcilers: one holder for each home, freed by the kernel at death."""

    def __init__(self, lock: Path) -> None:
        self._lock = lock
        self._descriptor = -1

    def take(self) -> None:
        """Hold the lock until `leave` or the end of this process. Raises Conflict when another process has it."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 40).decode() or "unknown"
            os.close(descriptor)
            raise Conflict(
                f"another control process (pid {holder}) leads this home",
                where=str(self._lock),
                remedy="stop it first: `ciranda down`, or end that process",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    def leave(self) -> None:
        """Let the next one lead."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Run:
    def step(self, name: str, function: Callable[..., Value], *arguments: Any) -> Value:
        options: StepOptions = {
            "name": name,
            "retries_allowed": True,
            "max_attempts": ATTEMPTS,
            "interval_seconds": 1.0,
            "should_retry": lambda error: isinstance(error, CirandaError) and error.retry,
        }
        try:
            return DBOS.run_step(options, function, *arguments)
        except DBOSMaxStepRetriesExceeded as error:
            raise error.errors[-1] from error


class Durable:
    """The workflows of one control process. There is one per process, since DBOS keeps one.

    Args:
        url: SQLAlchemy URL of the workflow database (its own file beside the control database, or PostgreSQL).
        workflows: Bodies by name.
    """

    def __init__(self, url: str, workflows: Mapping[str, Body]) -> None:
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": url,
            "application_version": VERSION,
            "executor_id": EXECUTOR,
            "serializer": Json(),
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        self._engine: sa.Engine | None = None
        if url.startswith("sqlite"):
            self._engine = sa.create_engine(url)
            sa.event.listen(self._engine, "connect", tune)
            config["system_database_engine"] = self._engine
        DBOS(config=config)
        self._workflows = {name: self._register(name, body) for name, body in workflows.items()}

    @staticmethod
    def _register(name: str, body: Body) -> Callable[[dict[str, Any]], dict[str, Any]]:
        @DBOS.workflow(name=name)
        def workflow(payload: dict[str, Any]) -> dict[str, Any]:
            return body(_Run(), payload)

        return workflow

    def launch(self) -> None:
        """Begin to work; what a predecessor left unfinished is resumed."""
        DBOS.launch()

    def start(self, name: str, identifier: str, payload: dict[str, Any]) -> None:
        """Start a workflow, or do nothing when one of this id ever started."""
        with SetWorkflowID(identifier):
            DBOS.start_workflow(self._workflows[name], payload)

    def wait(self, identifier: str) -> dict[str, Any]:
        """The result of a workflow, once it ended; raises what it raised."""
        handle: WorkflowHandle[dict[str, Any]] = DBOS.retrieve_workflow(identifier)
        return handle.get_result()

    def state(self, identifier: str) -> str:
        """`running`, `ended` or `absent`."""
        found = DBOS.list_workflows(workflow_ids=[identifier], load_input=False, load_output=False)
        if not found:
            return "absent"
        return "ended" if found[0].status in ENDED else "running"

    def failure(self, identifier: str) -> str:
        """Why a workflow ended without a result; empty when it goes on, has one, or never was."""
        found = DBOS.list_workflows(workflow_ids=[identifier], load_input=False)
        if not found or found[0].status not in ENDED - {"SUCCESS"}:
            return ""
        return str(found[0].error or found[0].status.lower().replace("_", " "))

    def close(self) -> None:
        """Stop working; running workflows resume at the next launch."""
        DBOS.destroy(workflow_completion_timeout_sec=0)
        if self._engine is not None:
            self._engine.dispose()
