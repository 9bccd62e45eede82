"""Two versions side by side: every metric on every suite that both were asked, over all cases and by slice.

All metrics of a suite are one family, and all slices of a metric are one, so that what stands out among many is no claim by
chance (`evals.compare`). What judges said is beside it as they stand; gates alone turn it into what people would say.
"""

from __future__ import annotations

from typing import Any

from ciranda.errors import Refused
from ciranda.evals import compare, judgements, suites
from ciranda.evals.suites import Evaluation
from ciranda.loop.platform import Platform
from ciranda.registry import versions


def compared(platform: Platform, candidate: str, live: str, *, margin: float = 0.0) -> dict[str, Any]:
    """Candidate minus live on the newest evaluations of the same cases.

    Raises:
        NotFound: There is no such version.
        Refused: No suite was asked of both.
    """
    with platform.db.reading() as conn:
        for ref in (candidate, live):
            versions.get(conn, ref)
        mine, theirs = (
            {row["suite_digest"]: row for row in reversed(suites.of_version(conn, ref))} for ref in (candidate, live)
        )
        common = [digest for digest in mine if digest in theirs]
        judged = {digest: judgements.on(conn, mine[digest]["report"], theirs[digest]["report"]) for digest in common}
    if not common:
        raise Refused(f"{candidate} and {live} were never asked the same cases", where="evaluations",
                      remedy=f"`ciranda evaluate {candidate}`, then `ciranda evaluate {live}`")  # fmt: skip
    told = []
    for digest in common:
        pair = [suites.load(platform.home, rows[digest]["report"]) for rows in (mine, theirs)]
        for made in judged[digest]:
            pair = [_joined(one, made, mine[digest]["report"]) for one in zip(pair, (False, True), strict=True)]
        told.append(_suite(*pair, margin=margin))
    return {"candidate": candidate, "live": live, "margin": margin, "suites": told}


def _joined(one: tuple[Evaluation, bool], made: judgements.Judgement, candidate: str) -> Evaluation:
    evaluation, live = one
    if made.kind == "preferred":
        scores = {case: 1 - score for case, score in made.scores.items()} if live else made.scores
        return judgements.joined(evaluation, made.metric, scores)
    return judgements.joined(evaluation, made.metric, made.scores) if (made.report != candidate) == live else evaluation


def _suite(candidate: Evaluation, live: Evaluation, *, margin: float) -> dict[str, Any]:
    metrics = [name for name in candidate.metrics if name in live.metrics]
    whole = compare.together([compare.compare(candidate, live, name, margin) for name in metrics])
    return {
        "suite": candidate.suite,
        "suite_digest": candidate.suite_digest,
        "metrics": [
            {**one.to_dict(), "slices": {
                part: found.to_dict() for part, found in compare.by_slice(candidate, live, one.metric, margin).items()
            }}
            for one in whole
        ],
    }  # fmt: skip
