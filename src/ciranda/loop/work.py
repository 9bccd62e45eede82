"""One turn's work: what each step does, told in the turn's row as it happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ciranda.config.model import ModelSpec
from ciranda.deploy import rollout
from ciranda.errors import Unavailable
from ciranda.loop import estimates, exam, intake, judging, registering, searching, steps, tuning, turns
from ciranda.loop.platform import Platform
from ciranda.registry import models, versions
from ciranda.registry.versions import Version
from ciranda.train import tunings

Value = TypeVar("Value")


class Work:
    """The steps of one turn, each a function of the results before it.

    Args:
        platform: The installation.
        turn: The turn's id; its row holds model and cause.
    """

    def __init__(self, platform: Platform, turn: str) -> None:
        self.platform, self.turn = platform, turn
        with platform.db.reading() as conn:
            self.row = turns.get(conn, turn)
            self.spec: ModelSpec = models.get(conn, self.row.model).spec
            self.job = tunings.of_turn(conn, turn)
            self.is_given = self.row.cause == registering.CAUSE  # the version is there already

    def data(self) -> dict[str, Any]:
        """Bring in new rows and commit the dataset version to learn from; those of a fine-tuning job are in its files."""
        if self.job is not None:
            brought = tuning.data(self.platform, self.spec, self.job, actor=self.turn)
        elif self.is_given:
            brought = registering.data(self.platform, self.spec)
        else:
            brought = intake.take(self.platform, self.spec, actor=self.turn, patient=True, tell=self._teller("data"))
        self._say("data", f"{brought['dataset']}: {brought['rows']} rows", dataset=brought["dataset"])
        return {"dataset": brought["dataset"], "digest": brought["digest"], "rows": brought["rows"]}

    def train(self, data: dict[str, Any]) -> dict[str, Any]:
        """Search for the best recipe; every trial is a job, and a call after a crash finds them. What cannot fit is refused."""
        if self.is_given:
            return registering.trained(self.row.event)
        spec = tuning.shaped(self.platform, self.spec, self.job, data["dataset"]) if self.job else self.spec
        if expected := estimates.demand(self.platform, spec, dataset=data["dataset"]):
            self._say("train", f"expected: {expected.summary}")
        best = searching.best(self.platform, spec, data["dataset"], turn=self.turn, tell=self._teller("train"))
        self._say("train", f"{best['trials']} trials, best {best['summary']}")
        return best

    def register(self, data: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
        """Make the best trial a version, with all it came from."""
        if self.is_given:
            version = registering.demand(self.platform, best["version"])
        else:
            version = steps.register(self.platform, self.spec, data, best, turn=self.turn)
        self._say("register", f"{version.ref} {version.digest[:19]}", version=version.ref)
        return {"version": version.ref}

    def evaluate(self, data: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        """Ask the candidate and the live version the same cases."""
        candidate, champion = self._pair(entry["version"])
        asked = "" if self.job else data["dataset"]  # whoever sends the files of a job does not choose its test split
        exam.replay(self.platform, self.spec, candidate, tell=self._teller("evaluate"))
        found = exam.examined(
            self.platform, self.spec, (candidate, champion), dataset=asked, tell=self._teller("evaluate")
        )
        asked = exam.consult(self.platform, self.spec, candidate, champion, found, dataset=data["dataset"], again=True)
        judging.wait(self.platform, asked, tell=self._teller("evaluate"))
        self._say("evaluate", f"{candidate.ref} and {champion.ref}: {len(found[candidate.ref])} suites each")
        return {"champion": champion.ref, "evaluations": found}

    def gate(self, entry: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
        """Let the gates speak."""
        with self.platform.db.reading() as conn:
            candidate, champion = versions.get(conn, entry["version"]), versions.get(conn, scores["champion"])
        verdict = exam.judge(self.platform, self.spec, candidate, champion, scores["evaluations"], turn=self.turn)
        self._say("gate", f"{verdict['outcome']}: {verdict['reason']}")
        return verdict

    def refuse(self, verdict: dict[str, Any]) -> dict[str, Any]:
        """The end of a turn whose version may not go out."""
        with self.platform.db.writing() as conn:
            turns.end(conn, self.turn, "refused")
        return {"state": "refused", "reason": verdict["reason"]}

    def release(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Begin the rollout; from here on its evidence decides."""
        with self.platform.db.writing() as conn:
            begun = rollout.start(conn, entry["version"], turn=self.turn, actor="loop")
            waits = begun.state == "awaiting_approval"
            turns.note(conn, self.turn, "release", "running", summary=f"{entry['version']}: {begun.reason}")
            turns.change(
                conn, self.turn, state="awaiting_approval" if waits else "released", rollout=begun.id,
                next_actor="an approver" if waits else "the evidence of the rollout",
            )  # fmt: skip
        return {"state": "released", "rollout": begun.id}

    def fail(self, message: str) -> dict[str, Any]:
        """The end of a turn that something stopped; the step under way says what. One whose job was cancelled frees all."""
        with self.platform.db.reading() as conn:
            job = tunings.of_turn(conn, self.turn)
        cancelled = job is not None and job.state == "cancelled"
        if cancelled:
            tuning.free(self.platform, self.spec, self.turn)
        with self.platform.db.writing() as conn:
            row = turns.get(conn, self.turn)
            if row.step:
                turns.note(conn, self.turn, row.step, "failed", summary=message)
            if cancelled:
                turns.end(conn, self.turn, "cancelled", summary=message)
            else:
                turns.end(conn, self.turn, "failed", summary=message, next_actor="an engineer")
        return {"state": "cancelled" if cancelled else "failed", "reason": message}

    def told(self, name: str, function: Callable[..., Value], *arguments: Any) -> Value:
        """Do a step; its row says that it began, and that it ended."""
        tuning.heed(self.platform, self.turn)
        with self.platform.db.writing() as conn:
            turns.note(conn, self.turn, name, "running", next_actor="Ciranda")
        result = function(*arguments)
        with self.platform.db.writing() as conn:
            turns.note(conn, self.turn, name, "done")
        return result

    def _pair(self, ref: str) -> tuple[Version, Version]:
        with self.platform.db.reading() as conn:
            candidate, champion = versions.get(conn, ref), versions.live(conn, self.spec.model)
        if champion is None:
            raise Unavailable(
                f"{self.spec.model} has no live version yet",
                where="versions",
                remedy="wait for its base to be prepared",
            )
        return candidate, champion

    def _say(self, name: str, summary: str, **values: Any) -> None:
        with self.platform.db.writing() as conn:
            turns.note(conn, self.turn, name, "running", summary=summary, **values)

    def _teller(self, name: str) -> Callable[[str], None]:
        said = ""

        def tell(summary: str) -> None:
            nonlocal said
            tuning.heed(self.platform, self.turn)
            if summary != said:
                said = summary
                self._say(name, summary)

        return tell
