"""An exam: one version, served by its own engine process, asked the cases of its suites. It runs as a job of its own.

The version is asked through the same OpenAI door and the same engine that will serve it, so the score is what users will get.
Answers that this version already gave to the same cases are taken from its earlier reports: decoding is greedy, asking again
would only cost time. Killed anywhere, it begins again; nothing is recorded before everything was answered.

What the scorers need beside it, an embedding, is served or called from here too.

    spec.json   engine (argv; `{ready}` stands for the ready file), name, key_file, suites, metrics, known, max_tokens, …
    output/     one report for each suite, `0.json`, `1.json`, …
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ciranda.errors import CirandaError, Failed, Unavailable
from ciranda.evals import embedding, replies, suites
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
        embedder: Command that serves what texts are compared by, when that is an engine of ours.
        embedding: The server elsewhere that embeds, as `embedding.Server` takes it; without both, words are compared.
    """

    engine: tuple[str, ...]
    name: str
    key_file: str
    suites: tuple[Suite, ...]
    metrics: tuple[str, ...]
    known: tuple[str, ...] = ()
    max_tokens: int = 128
    concurrency: int = 4
    embedder: tuple[str, ...] = ()
    embedding: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "evaluate", **asdict(self)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Spec:
        """From the JSON of `to_dict`."""
        fields = {name: value for name, value in values.items() if name != "kind"}
        fields |= {name: tuple(fields[name]) for name in ("engine", "metrics", "known", "embedder") if name in fields}
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
    with serving(spec.engine, spec.key_file, folder) as client, _aids(spec, folder) as aids:
        for number, suite in enumerate(spec.suites):
            evaluation = _examine(suite, spec, client, known, aids, folder / "progress.jsonl")
            files.write_atomic(output / f"{number}.json", json.dumps(evaluation.to_dict(), ensure_ascii=False))


@contextmanager
def _aids(spec: Spec, folder: Path) -> Iterator[dict[str, Any]]:
    """The engines that the scorers need."""
    if not any(scorer(name).needs == "embedding" for name in spec.metrics):
        yield {}
    elif spec.embedder:
        with _engine(spec.embedder, folder, "embedder") as url:
            yield {"embedding": embedding.Server(url, "base", f"file:{spec.key_file}", private=True)}
    elif spec.embedding:
        yield {"embedding": embedding.Server(**spec.embedding)}
    else:
        yield {"embedding": embedding.words}


def _known(reports: Iterable[str]) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for report in reports:
        evaluation = Evaluation.of(json.loads(Path(report).read_text()))
        answers |= {answer.case: answer for answer in evaluation.answers if not answer.error}
    return answers


def _examine(
    suite: Suite, spec: Spec, client: httpx.Client, known: Mapping[str, Answer], aids: Mapping[str, Any], progress: Path
) -> Evaluation:
    def ask(case: Case) -> Reply:
        had = known.get(case.id)
        return had.reply if had and _usable(had, case, spec) else _ask(client, spec, case)

    def tell(done: int, count: int) -> None:
        line = {"at": clock.iso(), "phase": "asked", "suite": suite.name, "done": done, "all": count}
        with progress.open("a") as file:
            file.write(json.dumps(line) + "\n")

    return suites.run(suite, ask, spec.metrics, aids=aids, concurrency=spec.concurrency, progress=tell)


def _usable(answer: Answer, case: Case, spec: Spec) -> bool:
    """Whether an earlier answer can be scored anew: it was to the same case, and holds what the scorers need."""
    return answer.reference == case.reference and (answer.logprobs is not None or not _unsure(spec))


def _unsure(spec: Spec) -> bool:
    """Whether a scorer needs log-probabilities."""
    return any(scorer(name).needs == "logprobs" for name in spec.metrics)


def _ask(client: httpx.Client, spec: Spec, case: Case) -> Reply:
    import httpx

    messages = [said.to_dict() for said in case.messages]
    body: dict[str, Any] = {"model": spec.name, "messages": messages, "temperature": 0, "max_tokens": spec.max_tokens}
    if case.tools:
        body["tools"] = list(case.tools)
    if _unsure(spec):
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
def serving(engine_argv: Sequence[str], key_file: str, folder: Path) -> Iterator[httpx.Client]:
    """An engine's process, its log and ready file in `folder`, and a client of it; both end with the block.

    Raises:
        Failed: It did not start; says how its log ends.
    """
    import httpx

    with _engine(engine_argv, folder, "engine") as url:
        headers = {"authorization": f"Bearer {Path(key_file).read_text().strip()}", "connection": "close"}
        with httpx.Client(base_url=url, headers=headers, timeout=ANSWER_S) as client:
            yield client


@contextmanager
def _engine(command: Sequence[str], folder: Path, name: str) -> Iterator[str]:
    """A serving process, by its command; gives its address, and ends it with the block."""
    ready, told = folder / f"{name}.json", folder / f"{name}.log"
    ready.unlink(missing_ok=True)
    argv = [part.replace("{ready}", str(ready)) for part in command]
    with told.open("ab") as log, subprocess.Popen(argv, stdout=log, stderr=log) as engine:
        try:
            yield _url(engine, ready, told)
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
