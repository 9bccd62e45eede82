"""Where a fine-tuning job stands, read off the turn that is done for it: its state, its error, what there is to say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ciranda.loop.turns import Turn
from ciranda.train.trials import Trial
from ciranda.train.tunings import Said, State

POINTS = 100  # at most so many training losses of a trial become events
DONE = ("released", "awaiting_approval", "promoted", "rolled_back", "unchanged")


def state_of(turn: Turn) -> State:
    """A job's state, from its turn's. Pure."""
    if turn.state in ("failed", "refused"):
        return "failed"
    if turn.state == "cancelled":
        return "cancelled"
    if turn.state in DONE:
        return "succeeded"
    return "validating_files" if turn.step in ("", "data") else "running"


def why(turn: Turn) -> dict[str, Any]:
    """The error of a job whose turn ended badly, in OpenAI's shape. Pure."""
    last = turn.steps[-1] if turn.steps else {"name": "data", "summary": ""}
    if turn.state == "refused":
        said = f"{turn.version} was trained, and its gates refused it: {last['summary']}"
        return {"code": "gate_refused", "message": said, "param": None}
    if last["name"] == "data":
        said = f"The job failed due to an invalid training file. {last['summary']}"
        return {"code": "invalid_training_file", "message": said, "param": "training_file"}
    return {"code": "server_error", "message": f"{last['name']}: {last['summary']}", "param": None}


def happened(turn: Turn, found: Iterable[Trial], state: State) -> Iterator[Said]:
    """Everything that there is to say of a job by now, in order. Pure."""
    ended = {step["name"]: step for step in turn.steps if step["state"] == "done"}
    begun = {step["name"] for step in turn.steps}
    if "data" in ended:
        yield Said(f"Files validated: {ended['data']['summary']}")
    if "train" in begun:
        yield Said("Fine-tuning job started")
    for trial in found:
        yield from _points(trial)
    if "train" in ended:
        yield Said(f"Training done: {ended['train']['summary']}")
    if "register" in ended:
        yield Said(f"New fine-tuned model created: {turn.version}")
    if "evaluate" in begun:
        yield Said(f"Evaluating against the live version: {turn.version}")
    if "gate" in ended:
        yield Said(f"Gates: {ended['gate']['summary']}", "info" if state == "succeeded" else "warn")
    if turn.state == "awaiting_approval":
        yield Said(f"Waiting for an approver: {turn.version} is served once somebody says yes", "warn")
    if state == "succeeded":
        yield Said("The job has successfully completed")
    if state == "failed":
        yield Said(f"The job failed: {why(turn)['message']}", "error")


def _points(trial: Trial) -> Iterator[Said]:
    stride = max(1, trial.recipe.steps // POINTS)
    for step, loss in trial.loss_curve:
        if step % stride == 0 or step == trial.recipe.steps:
            figures = {"step": step, "train_loss": loss, "total_steps": trial.recipe.steps, "trial": trial.number}
            yield Said(
                f"Step {step}/{trial.recipe.steps} of trial {trial.number}: training loss={loss:.4f}", data=figures
            )
    if trial.state == "complete":
        judged = {
            "step": trial.recipe.steps,
            "trial": trial.number,
            "full_valid_loss": trial.loss,
            "exact_match": trial.objective,
        }
        yield Said(
            f"Trial {trial.number} validated: loss={trial.loss or 0.0:.4f}, exact match={trial.objective or 0.0:.1%}",
            data=judged,
        )
    if trial.state == "failed":
        yield Said(f"Trial {trial.number} failed: {trial.reason}", "warn")
