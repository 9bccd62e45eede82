"""Names that the platform stores, in the reader's language: stages, states, roles, causes, metrics, results.

A name that is not here is shown as it is, so that a new one never breaks a page; a test finds those that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from gettext import NullTranslations
from typing import Any

from ciranda.registry.lineage import Node
from ciranda.web import flashes, outcomes
from ciranda.web.formats import Formats
from ciranda.web.views.alerts import AlertRow
from ciranda.web.views.reviews import Looked
from ciranda.web.views.runs import Again

TONES = {
    "live": "ok", "promoted": "ok", "pass": "ok", "passed": "ok", "complete": "ok", "done": "ok", "ready": "ok", "quiet": "ok",
    "fine": "ok", "running": "info", "candidate": "info", "approved": "info", "released": "info", "info": "info", "now": "info",
    "awaiting_approval": "warn", "held": "warn", "warning": "warn", "warned": "warn", "masked": "warn", "certain": "warn",
    "cannot_tell": "warn", "waiting": "", "queued": "", "open": "warn", "warn": "warn", "learning": "info",
    "failed": "bad", "refused": "bad", "rolled_back": "bad", "critical": "bad", "fail": "bad", "blocked": "bad", "bad": "bad",
    "fresh": "ok", "stale": "warn", "personal": "warn", "confidential": "warn",
    "ok": "ok", "drift": "bad", "worse": "bad", "dropped": "warn", "error": "bad",
    "interrupted": "warn", "unchanged": "ok",
}  # fmt: skip


@dataclass(frozen=True)
class Words:
    """The words of one language.

    Args:
        messages: Its catalogue.
        formats: How it writes numbers, for sentences with numbers in them.
    """

    messages: NullTranslations
    formats: Formats

    def tone(self, name: str) -> str:
        """The colour of a state: ok, info, warn, bad, or none."""
        return TONES.get(name, "")

    def stage(self, name: str) -> str:
        """A stage of the loop."""
        _ = self.messages.gettext
        return {
            "data": _("Data"), "train": _("Train"), "gate": _("Gate"), "canary": _("Canary"),
            "live": _("Live"), "drift": _("Drift"), "retrain": _("Retrain"),
        }.get(name, name)  # fmt: skip

    def effect(self, name: str) -> str:
        """What a policy does."""
        _ = self.messages.gettext
        return {"allow": _("Only these"), "hash": _("Hashed"), "mask": _("Masked"), "deny": _("Denied")}.get(name, name)

    def event(self, name: str) -> str:
        """What happened at the gateway beside an answer."""
        _ = self.messages.gettext
        return {
            "try_failed": _("Try failed"), "tokens_counted": _("Tokens counted"), "texts_judged": _("Texts judged"),
        }.get(name, name)  # fmt: skip

    def purpose(self, name: str) -> str:
        """What rows are read for."""
        _ = self.messages.gettext
        return {
            "training": _("Training"), "evaluation": _("Evaluation"), "labelling": _("Labelling"), "viewing": _("Viewing"),
            "export": _("Export"), "monitoring": _("Monitoring"),
        }.get(name, name)  # fmt: skip

    def erasure(self, step: str) -> str:
        """A step of forgetting a person."""
        _ = self.messages.gettext
        return {
            "asked": _("Asked"), "collect": _("Looking"), "interactions": _("Interactions"), "datasets": _("Datasets"),
            "files": _("Files"), "records": _("Records"), "models": _("Models"), "proof": _("Proof"), "done": _("Done"),
        }.get(step, step)  # fmt: skip

    def state(self, name: str) -> str:
        """The state of anything: a turn, a trial, a version, a rollout, an alert, a check."""
        _ = self.messages.gettext
        return {
            "running": _("Running"), "released": _("Releasing"), "refused": _("Refused"), "failed": _("Failed"),
            "awaiting_approval": _("Awaiting approval"), "promoted": _("Promoted"), "rolled_back": _("Rolled back"),
            "held": _("Held"), "open": _("Open"), "acknowledged": _("Acknowledged"), "closed": _("Closed"),
            "complete": _("Complete"), "stopped": _("Stopped"), "pruned": _("Stopped early"),
            "waiting": _("Waiting"), "done": _("Done"),
            "skipped": _("Skipped"), "candidate": _("Candidate"), "approved": _("Approved"), "live": _("Live"),
            "retired": _("Retired"), "queued": _("Queued"), "unchanged": _("Nothing new"), "cancelled": _("Cancelled"),
            "pass": _("Pass"), "fail": _("Fail"), "cannot_tell": _("Cannot tell"),
            "dropped": _("Dropped"), "masked": _("Masked"), "blocked": _("Blocked"), "warned": _("Warned"),
            "passed": _("Passed"), "quiet": _("Quiet"), "certain": _("Certain, but small"), "drift": _("Drift"),
            "learning": _("Learning its reference"), "worse": _("Worse"), "fine": _("Not worse"), "ready": _("Ready"),
            "warning": _("Warning"), "critical": _("Critical"), "info": _("Info"),
            "interrupted": _("Interrupted"), "judging": _("Being judged"), "better": _("Better"), "not_worse": _("Not worse"),
            "fresh": _("Fresh"), "stale": _("Stale"),
            "ok": _("Healthy"), "now": _("Turning"), "warn": _("Needs a look"), "bad": _("In trouble"),
        }.get(name, name.replace("_", " "))  # fmt: skip

    def role(self, name: str) -> str:
        """What a key may do, in one word."""
        _ = self.messages.gettext
        return {
            "admin": _("Admin"), "approver": _("Approver"), "engineer": _("Engineer"), "labeller": _("Labeller"),
            "viewer": _("Viewer"), "client": _("Client app"),
            "feedback": _("Web page, feedback only"),
        }.get(name, name)  # fmt: skip

    def reason(self, name: str) -> str:
        """A reason that a user gave for a vote; a free tag is shown as it is."""
        _ = self.messages.gettext
        return {
            "correct": _("correct"), "helpful": _("helpful"), "clear": _("clear"), "wrong": _("wrong"),
            "incomplete": _("incomplete"), "outdated": _("out of date"), "unsafe": _("unsafe"),
            "off_topic": _("off topic"), "ignored_instructions": _("ignored instructions"), "unclear": _("unclear"),
        }.get(name, name)  # fmt: skip

    def bound(self, name: str) -> str:
        """A limit of a key, a tenant or a model."""
        _ = self.messages.gettext
        return {
            "requests_per_minute": _("requests per minute"), "tokens_per_minute": _("tokens per minute"),
            "concurrent": _("at the same time"), "tokens_per_day": _("tokens per day"),
            "tokens_per_month": _("tokens per month"), "cost_per_day": _("money per day"),
            "cost_per_month": _("money per month"),
        }.get(name, name)  # fmt: skip

    def arm(self, name: str) -> str:
        """A share of traffic."""
        _ = self.messages.gettext
        return {"live": _("Live"), "canary": _("Canary"), "shadow": _("Shadow"), "fallback": _("Stand-in")}.get(
            name, name
        )

    def cause(self, name: str) -> str:
        """What started a turn."""
        _ = self.messages.gettext
        return {
            "drift": _("Drift"), "feedback": _("Feedback"), "schedule": _("Schedule"), "person": _("A person"),
            "asked": _("A person"), "retrain": _("Drift"), "intents": _("Sentences"),
            "data": _("New data"), "first": _("First turn"), "apply": _("Model file"), "sources": _("New data"),
            "fine-tuning": _("Fine-tuning job"), "registered": _("Registered by a client"),
        }.get(name, name.replace("_", " "))  # fmt: skip

    def metric(self, name: str) -> str:
        """A metric, a stream or a scorer."""
        _ = self.messages.gettext
        return {
            "requests": _("Requests"), "errors": _("Errors"), "latency": _("Latency, p95"), "p50": _("Latency, p50"),
            "p99": _("Latency, p99"), "tokens": _("Tokens"), "thumbs": _("Thumbs up"), "quality": _("Quality"),
            "error_rate": _("Error rate"), "latency_p95_ms": _("Latency, p95"), "thumbs_up": _("Thumbs up"),
            "exact_match": _("Exact match"), "intent_accuracy": _("Right intent"), "valid_json": _("Valid JSON"),
            "toxicity": _("Toxicity"), "pii_leak": _("Leaked personal data"), "refusal": _("Refusals"),
            "length_ratio": _("Length against reference"), "loss": _("Loss"), "contains": _("Holds the reference"),
            "label": _("Right label"), "similarity": _("Similar to the reference"), "relevance": _("Similar to the question"),
            "json_match": _("Same JSON"), "json_fields": _("Right fields"), "json_schema": _("Satisfies its schema"),
            "tool_calls": _("Right calls"), "tool_names": _("Right tools"), "tool_valid": _("Valid calls"),
            "python": _("Python that parses"), "same_language": _("In the question's language"),
            "answer_changed": _("Another answer for the partner"), "perplexity": _("Perplexity"),
            "latency_ms": _("Latency, ms"), "tokens_out": _("Tokens of the answer"), "cost": _("Cost"),
            "size_mb": _("Served size, MB"),
            "validation exact match": _("Exact match on validation"), "repetition": _("Repetition"),
            "retrain": _("Worse after drift"), "messages": _("Messages"), "e_value": _("Evidence"),
            "fraction": _("New kinds of message"),
            "before": _("Before"), "now": _("Now"), "limit": _("Limit"), "input": _("Input"), "output": _("Output"),
            "feedback": _("Feedback"),
        }.get(name, name.replace("_", " "))  # fmt: skip

    def finding(self, name: str) -> str:
        """What counterfactual pairs say."""
        _ = self.messages.gettext
        return {"fair": _("fair"), "biased": _("biased"), "cannot_tell": _("cannot tell")}.get(name, name)

    def trial(self, number: int) -> str:
        """What a trial is called."""
        return self.messages.gettext("trial %(n)s") % {"n": number}

    def judged(self, name: str) -> str:
        """A metric as a release compares it, one share per answer."""
        _ = self.messages.gettext
        return _("Slower than the champion's p95") if name == "latency_p95_ms" else self.metric(name)

    def check(self, name: str) -> str:
        """A check on rows; one of the owner's own by its function."""
        _ = self.messages.gettext
        return {
            "schema": _("Schema"), "duplicates": _("Duplicates"), "pii": _("Personal data"), "length": _("Length"),
            "contamination": _("Contamination"), "toxicity": _("Toxicity"), "split": _("Split by template"),
            "language": _("Language"), "secrets": _("Secrets"), "conflicts": _("Conflicting answers"),
            "near_duplicates": _("Near duplicates"), "balance": _("Balance of labels"), "drift": _("Drift from the parent"),
        }.get(name, name.removeprefix("custom: "))  # fmt: skip

    def step(self, name: str) -> str:
        """A step of a turn."""
        _ = self.messages.gettext
        return {
            "ingest": _("Bring in data"), "check": _("Check rows"), "commit": _("Commit dataset"), "data": _("Data"),
            "search": _("Search"), "train": _("Train"), "evaluate": _("Evaluate"), "gate": _("Gates"),
            "register": _("Register"), "release": _("Release"), "canary": _("Canary"), "shadow": _("Shadow"),
            "promote": _("Promote"), "rollback": _("Roll back"), "approve": _("Approval"), "prepare": _("Prepare base"),
        }.get(name, name.replace("_", " "))  # fmt: skip

    def alert(self, row: AlertRow) -> str:
        """What an alert says, in one sentence."""
        _, f, x = self.messages.gettext, self.formats, row.values
        if row.kind == "retrain":
            return _("%(version)s drifts and does worse") % {"version": x.get("version") or row.model}
        if "before" not in x:
            return row.title
        values = {
            **x,
            "channel": self.metric(x["channel"]),
            "before": f.percent(x["before"]),
            "after": f.percent(x["after"]),
        }
        if "label" not in x:
            return _("%(channel)s: bad ones rose from %(before)s to %(after)s") % values
        if x["language"]:
            return _("%(channel)s changed: messages in “%(label)s” went from %(before)s to %(after)s") % values
        return _("%(channel)s changed: messages like “%(label)s” went from %(before)s to %(after)s") % values

    def decided(self, action: str) -> str:
        """What a decision did to its subject."""
        _ = self.messages.gettext
        return {
            "version.live": _("went live"), "rollout.promoted": _("was promoted"),
            "rollout.rolled_back": _("was rolled back"), "rollout.approved": _("was approved"),
            "alert.acknowledged": _("was acknowledged"), "verdict.override": _("was let through its gates"),
        }.get(action, action)  # fmt: skip

    def fact(self, name: str) -> str:
        """What a row of facts about data is called."""
        _ = self.messages.gettext
        return {
            "kind": _("Made by"), "cause": _("Cause"), "run": _("Run"), "corrections": _("Corrections"),
            "intents": _("Rows from intents"), "files": _("Rows from files"), "interactions": _("Rows from traffic"),
            "feedback": _("Rows from feedback"),
        }.get(name, name)  # fmt: skip

    def source(self, kind: str) -> str:
        """A kind of source."""
        _ = self.messages.gettext
        return {
            "files": _("Files"), "folder": _("Watched folder"), "http": _("HTTP API"), "sql": _("Database"),
            "s3": _("Bucket"), "dlt": _("dlt connector"), "interactions": _("Own traffic"), "intents": _("Sentences"),
        }.get(kind, kind)  # fmt: skip

    def schedule(self, every: float | None, cron: str, watched: bool) -> str:
        """When a source runs."""
        _ = self.messages.gettext
        if every is not None:
            return _("every %(time)s") % {"time": self.formats.duration(every)}
        if cron:
            return _("by cron %(line)s (UTC)") % {"line": cron}
        return _("as files come") if watched else _("when asked")

    def phase(self, name: str) -> str:
        """What a run is doing."""
        _ = self.messages.gettext
        return {
            "reading": _("reading"), "checking": _("checking"), "comparing": _("comparing rows with each other"),
            "committing": _("committing"),
        }.get(name, name)  # fmt: skip

    def change(self, name: str) -> str:
        """What happened to a field."""
        _ = self.messages.gettext
        return {"new": _("New"), "missing": _("Missing"), "retyped": _("Other type")}.get(name, name)

    def place(self, kind: str) -> str:
        """Where the words of a search were found."""
        _ = self.messages.gettext
        return {
            "name": _("the name"), "tag": _("a tag"), "term": _("a term"), "owner": _("the owner"), "field": _("the field"),
            "purpose": _("the purpose"), "description": _("the description"),
        }.get(kind, kind)  # fmt: skip

    def sensitivity(self, name: str) -> str:
        """How careful one has to be with data."""
        _ = self.messages.gettext
        return {
            "public": _("Public"), "internal": _("Internal"), "confidential": _("Confidential"), "personal": _("Personal"),
            "": _("not said"),
        }.get(name, name)  # fmt: skip

    def node(self, kind: str) -> str:
        """What a thing in the causal chain is."""
        _ = self.messages.gettext
        return {
            "source": _("Source"), "run": _("Ingestion"), "row": _("Row"), "dataset": _("Dataset version"), "base": _("Base"),
            "trial": _("Trial"), "version": _("Model version"), "evaluation": _("Evaluation"), "release": _("Release"),
            "answers": _("Answers"), "answer": _("Answer"),
        }.get(kind, kind)  # fmt: skip

    def chained(self, node: Node) -> str:
        """What is worth knowing of a thing in the causal chain, in a few words."""
        _, f, x = self.messages.gettext, self.formats, node.facts
        if node.kind in ("run", "dataset"):
            rows = x.get("rows") or 0
            return self.messages.ngettext("%(rows)s row", "%(rows)s rows", rows) % {"rows": f.number(rows)}
        if node.kind == "answers":
            return f.number(x["count"])
        if node.kind == "evaluation":
            return f"{self.metric(x['metric'])} {f.percent(x['value'])}" if x.get("metric") else ""
        if node.kind in ("version", "release", "trial"):
            return self.state(str(x.get("stage" if node.kind == "version" else "state", "")))
        return ""

    def made_by(self, kind: str) -> str:
        """What made the rows of a version."""
        _ = self.messages.gettext
        return {
            "ingestion": _("Ingestion"), "interactions": _("Recorded traffic"), "recipe": _("Recipe"), "review": _("Review"),
            "revert": _("Revert"), "branch": _("Branch"), "erasure": _("Erasure"), "import": _("Import"), "": "–",
        }.get(kind, kind.replace("_", " "))  # fmt: skip

    def difference(self, kind: str) -> str:
        """A kind of difference between two versions."""
        _ = self.messages.gettext
        return {"added": _("Added"), "removed": _("Removed"), "changed": _("Changed")}.get(kind, kind)

    def split(self, name: str) -> str:
        """A split of a dataset."""
        _ = self.messages.gettext
        return {"train": _("Training"), "validation": _("Validation"), "test": _("Test")}.get(name, name)

    def actor(self, name: str) -> str:
        """Who acts, when it is the platform itself."""
        _ = self.messages.gettext
        return {
            "loop": _("the loop"), "rollout": _("the rollout"), "monitor": _("the monitor"), "schedule": _("the schedule"),
            "intake": _("the intake"),
            "collector": _("the collector"), "": _("nobody"), "nobody": _("nobody"), "Ciranda": _("the loop"),
            "an approver": _("an approver"), "an engineer": _("an engineer"),
            "the evidence of the rollout": _("the evidence of the rollout"),
            "Ciranda, as soon as it is free": _("the loop, as soon as it is free"),
        }.get(name, _("turn") if name.startswith("turn:") else name)  # fmt: skip

    def extent(self, size: str) -> str:
        """How large a difference is."""
        _ = self.messages.gettext
        return {
            "negligible": _("negligible"), "small": _("small"), "medium": _("medium"), "large": _("large"),
        }.get(size, size)  # fmt: skip

    def judging(self, kind: str) -> str:
        """What a judge is asked for."""
        _ = self.messages.gettext
        return {"judge": _("grades"), "preferred": _("preferences")}.get(kind, kind)

    def makes(self, name: str) -> str:
        """What labels of a review queue become."""
        _ = self.messages.gettext
        return {
            "answers": _("Right and corrected answers"), "labelled": _("Answers with thumbs"),
            "pairs": _("Preference pairs"),
        }.get(name, name)  # fmt: skip

    def chosen(self, name: str) -> str:
        """Why an item is reviewed, in a word."""
        _ = self.messages.gettext
        return {
            "disagreement": _("Contradiction"), "thumb_down": _("Thumb down"), "drifted": _("New kind"),
            "low_score": _("Low score"), "flagged": _("Flagged"), "random": _("At random"),
            "annotators": _("Second opinion"),
        }.get(name, name)  # fmt: skip

    def chosen_for(self, item: Looked) -> str:
        """Why an item is reviewed, in a sentence."""
        _ = self.messages.gettext
        told = {
            "disagreement": _("The user's vote and the scores contradict each other."),
            "thumb_down": _("Somebody said no, and nobody said what would be right."),
            "drifted": _("Questions of this kind grew from %(before)s to %(after)s: %(kind)s."),
            "low_score": _("The scores are low."),
            "flagged": _("A check found something: %(reason)s."),
            "random": _("Chosen by chance, to know how good the answers are on the whole."),
            "annotators": _("Two people disagree on it."),
        }.get(item.reason, item.reason)  # fmt: skip
        shares = {name: self.formats.percent(float(item.why.get(name, 0))) for name in ("before", "after")}
        said = told % {**shares, "kind": item.why.get("kind", ""), "reason": item.why.get("reason", "")}
        scores = ", ".join(f"{self.metric(name)} {self.formats.number(value, 2)}" for name, value in item.scores)
        votes = {1: _("thumb up"), -1: _("thumb down")}.get(item.thumb, "")
        return " · ".join(part for part in (said, votes, scores) if part)

    def coefficient(self, name: str) -> str:
        """A figure of agreement: alpha over all, kappa of two."""
        _ = self.messages.gettext
        kind, _colon, names = name.partition(": ")
        return _("All, Krippendorff's alpha") if kind == "alpha" else _("%(names)s, Cohen's kappa") % {"names": names}

    def ended(self, reason: str) -> str:
        """Why a trial or a search ended."""
        return outcomes.ended(self.messages, reason)

    def counted(self, state: str, count: int) -> str:
        """So many trials of a state."""
        return outcomes.counted(self.messages, state, count)

    def nearness(self, one: Again) -> str:
        """How near a run that was trained again came."""
        return outcomes.nearness(self.messages, self.formats, one)

    def otherwise(self, differences: Sequence[str]) -> str:
        """What was not as it had been."""
        return outcomes.otherwise(self.messages, differences)

    def flash(self, result: Mapping[str, Any]) -> str:
        """What a button did, in one sentence."""
        return flashes.sentence(self.messages, self.formats, result)
