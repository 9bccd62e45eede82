"""An inspect-ai task over the cases of a registered suite: `ciranda suite export routing@1 --as inspect > routing.jsonl`.

    OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=cir_… \\
      inspect eval suite.py -T cases=routing.jsonl --model openai/support-router

Cases with choices are asked as they are, and the answer must name the right one; the others must give the reference itself.
"""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import includes, match
from inspect_ai.solver import generate

KINDS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


def sample(record: dict) -> Sample:
    """One case; of a choice the words are the target, since the model is not asked for a letter."""
    choices, target = record.get("choices"), record["target"]
    if choices and len(target) == 1:
        target = choices["ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(target)]
    said = [KINDS[message["role"]](content=message["content"]) for message in record["input"]]
    return Sample(id=record["id"], input=said, target=target, metadata=record["metadata"])


@task
def suite(cases: str = "cases.jsonl", whole: bool = False) -> Task:
    """Ask the cases of a file; `whole` wants the reference and nothing else."""
    return Task(
        dataset=json_dataset(cases, sample),
        solver=generate(),
        scorer=match(location="exact") if whole else includes(),
    )
