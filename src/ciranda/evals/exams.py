"""An exam: one version, served by its own engine process, asked the cases of its suites. It runs as a job of its own.

The version is asked through the same OpenAI door and the same engine that will serve it, so the score is what users will get.
Answers that this version already gave to the same cases are taken from its earlier reports: decoding is greedy, asking again
would only cost time. Killed anywhere, it begins again; nothing is recorded before everything was answered.

    spec.json   engine (argv; `{ready}` stands for the ready file), name, key_file, suites, metrics, known, max_tokens, concurrency
    output/     one report for each suite, `0.json`, `1.json`, …
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.errors import CirandaError, Failed, Unavailable
from ciranda.evals import replies, suites
from ciranda.evals.cases import Case, Reply
from ciranda.evals.scorers import scorer
from ciranda.evals.suites import Answer, Evaluation, Suite
from ciranda.store import clock, files

if TYPE_CHECKING:
    import httpx  # a fifth of a second: only the job itself pays it

READY_S = 180
ANSWER_S = 120
STOP_S = 20
BUSY = (429, 502, 503, 504)  # says nothing of the model
POLL_S = 0.05


@dataclass(frozen=True)
class Spec:
    """One exam, as `spec.json` holds it.

    Args:
        engine: Command that serves the version; `{ready}` in it is replaced by the path of the ready file.
        name: The model name that the engine answers to.
        key_file: File with the engine's bearer token.
        metrics: Scorers by name.
        known: Earlier reports of this very version, whose answers may be used again.
    """

    engine: tuple[str, ...]
    name: str
    key_file: str
    suites: tuple[Suite, ...]
    metrics: tuple[str, ...]
    known: tuple[str, ...] = ()
    max_tokens: int = 128
    concurrency: int = 4

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "evaluate", **asdict(self)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Spec:
        """From the JSON of `to_dict`."""
        fields = {name: value for name, value in values.items() if name != "kind"}
        fields |= {name: tuple(fields[name]) for name in ("engine", "metrics", "known")}
        return cls(**{**fields, "suites": tuple(_suite(one) for one in fields["suites"])})


def _suite(values: Mapping[str, Any]) -> Suite:
    return Suite(values["name"], tuple(Case.of(one) for one in values["cases"]))


def results(folder: Path) -> list[Evaluation]:
    """The evaluations that an exam left in its job's folder, in the order of its suites."""
    spec = Spec.of(json.loads((folder / "spec.json").read_text()))
    return [
        Evaluation.of(json.loads((folder / "output" / f"{number}.json").read_text()))
        for number in range(len(spec.suites))
    ]


def sit(folder: Path) -> None:
    """Do the exam of a job's folder.

    Raises:
        Failed: The engine did not start; says how its log ends.
        Unavailable: It stopped answering.
    """
    spec = Spec.of(json.loads((folder / "spec.json").read_text()))
    known = _known(spec.known)
    output = folder / "output"
    output.mkdir(exist_ok=True)
    with _serving(spec, folder) as client:
        for number, suite in enumerate(spec.suites):
            evaluation = _examine(suite, spec, client, known, folder / "progress.jsonl")
            files.write_atomic(output / f"{number}.json", json.dumps(evaluation.to_dict(), ensure_ascii=False))


def _known(reports: Iterable[str]) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for report in reports:
        evaluation = Evaluation.of(json.loads(Path(report).read_text()))
        answers |= {answer.case: answer for answer in evaluation.answers if not answer.error}
    return answers


def _examine(suite: Suite, spec: Spec, client: httpx.Client, known: Mapping[str, Answer], progress: Path) -> Evaluation:
    had = {case.id: known[case.id] for case in suite.cases if _usable(known.get(case.id), case, spec.metrics)}
    asked = Suite(suite.name, tuple(case for case in suite.cases if case.id not in had))
    said = _asked(asked, spec, client, progress, already=len(had)) if asked.cases else {}
    answers = {**had, **said}
    return Evaluation(suite.name, suite.digest, tuple(answers[case.id] for case in suite.cases))


def _asked(suite: Suite, spec: Spec, client: httpx.Client, progress: Path, *, already: int) -> dict[str, Answer]:
    def ask(case: Case) -> Reply:
        return _ask(client, spec, case)

    def tell(done: int, count: int) -> None:
        line = {
            "at": clock.iso(),
            "phase": "asked",
            "suite": suite.name,
            "done": done + already,
            "all": count + already,
        }
        with progress.open("a") as file:
            file.write(json.dumps(line) + "\n")

    evaluation = suites.run(suite, ask, spec.metrics, concurrency=spec.concurrency, progress=tell)
    return {answer.case: answer for answer in evaluation.answers}


def _usable(answer: Answer | None, case: Case, metrics: Iterable[str]) -> bool:
    return answer is not None and answer.reference == case.reference and set(metrics) <= set(answer.scores)


def _ask(client: httpx.Client, spec: Spec, case: Case) -> Reply:
    import httpx

    messages = [said.to_dict() for said in case.messages]
    body: dict[str, Any] = {"model": spec.name, "messages": messages, "temperature": 0, "max_tokens": spec.max_tokens}
    if case.tools:
        body["tools"] = list(case.tools)
    if any(scorer(name).needs == "logprobs" for name in spec.metrics):
        body["logprobs"] = True
    began = time.monotonic()
    try:
        answer = client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the engine stopped answering: {error}", where=str(client.base_url), remedy="evaluate the version again"
        ) from None
    if answer.status_code in BUSY:
        raise Unavailable(
            f"the engine is busy: {answer.status_code} {answer.text[:200]}", where=str(client.base_url),
            remedy="evaluate the version again",
        )  # fmt: skip
    if answer.status_code >= 400:
        raise Failed(f"the engine answered {answer.status_code}: {answer.text[:200]}", where=str(client.base_url))
    return replies.completed(answer.json(), latency_ms=(time.monotonic() - began) * 1000)


@contextmanager
def _serving(spec: Spec, folder: Path) -> Iterator[httpx.Client]:
    """The engine's process and a client of it; both end with the block."""
    import httpx

    ready = folder / "engine.json"
    ready.unlink(missing_ok=True)
    argv = [part.replace("{ready}", str(ready)) for part in spec.engine]
    with (folder / "engine.log").open("ab") as log, subprocess.Popen(argv, stdout=log, stderr=log) as engine:
        try:
            url = _url(engine, ready, folder / "engine.log")
            headers = {"authorization": f"Bearer {Path(spec.key_file).read_text().strip()}", "connection": "close"}
            with httpx.Client(base_url=url, headers=headers, timeout=ANSWER_S) as client:
                yield client
        finally:
            _end(engine)


def _end(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()
    try:
        engine.wait(STOP_S)
    except subprocess.TimeoutExpired:
        engine.kill()


def _url(engine: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and engine.poll() is None:
        if ready.exists():
            return str(json.loads(ready.read_text())["url"])
        time.sleep(POLL_S)
    end = log.read_text(errors="replace")[-600:]
    state = "did not become ready in time" if engine.poll() is None else f"ended with code {engine.returncode}"
    raise Failed(
        f"the engine {state}; its log ends: {end}", where=str(log), remedy="look at the log, then evaluate again"
    )


def main() -> int:
    """The job's entry: `python -m ciranda.evals.exams <folder>`."""
    try:
        sit(Path(sys.argv[1]))
    except CirandaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
