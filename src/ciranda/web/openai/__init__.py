"""OpenAI's fine-tuning door: files and fine-tuning jobs as the official client asks for them, under `/v1` of control.

    door    the shape of errors         parts   a multipart upload, written to disk as it comes
    files   `/v1/files`                 uploads `/v1/uploads`: files in pieces
    jobs    `/v1/fine_tuning/jobs`

The gateway passes these paths on to control, so that one `base_url` reaches them and the chat completions alike. Deny by default:
each route names the right it needs, and files and jobs belong to the tenant of the key that made them. What each field becomes is
in docs/openai-finetuning.md.
"""

from __future__ import annotations

from functools import partial

from starlette.routing import Route

from ciranda.loop.platform import Platform
from ciranda.web.api.asked import Nothing
from ciranda.web.api.door import Rest, mounted
from ciranda.web.openai import files, jobs, parts, uploads
from ciranda.web.openai.door import DIALECT

UPLOAD = "/uploads/{upload}"
JOB = "/fine_tuning/jobs/{job}"
ROUTES: tuple[Rest, ...] = (
    Rest("POST", "/files", "data", files.create, parts.Arrived, "Send a file to learn from.", reader=parts.receive),
    Rest("GET", "/files", "data", files.listing, files.Listed, "The tenant's files."),
    Rest("GET", "/files/{file}", "data", files.one, Nothing, "One file."),
    Rest("GET", "/files/{file}/content", "data", files.content, Nothing, "Its bytes, as they were sent."),
    Rest("DELETE", "/files/{file}", "data", files.delete, Nothing, "Take it away."),
    Rest("POST", "/uploads", "data", uploads.create, uploads.Create, "Announce a file that comes in pieces."),
    Rest(
        "POST", UPLOAD + "/parts", "data", uploads.part, parts.Piece, "Send a piece of it.", reader=parts.receive_part
    ),
    Rest("POST", UPLOAD + "/complete", "data", uploads.complete, uploads.Complete, "Make the pieces a file."),
    Rest("POST", UPLOAD + "/cancel", "data", uploads.cancel, jobs.Anything, "Take it back, with its pieces."),
    Rest("POST", "/fine_tuning/jobs", "train", jobs.create, jobs.Create, "Train a version of a model on a file."),
    Rest("GET", "/fine_tuning/jobs", "view", jobs.listing, jobs.Jobs, "The tenant's jobs, newest first."),
    Rest("GET", JOB, "view", jobs.one, Nothing, "One job: where it stands."),
    Rest("GET", JOB + "/events", "view", jobs.events, jobs.After, "What happened, newest first."),
    Rest("GET", JOB + "/checkpoints", "view", jobs.checkpoints, jobs.After, "The version that it made."),
    Rest("POST", JOB + "/cancel", "train", jobs.cancel, jobs.Anything, "End it, and free what it holds."),
    Rest(
        "POST", JOB + "/pause", "train", partial(jobs.refused, "pause"), jobs.Anything, "Refused: cancel, then go on."
    ),
    Rest("POST", JOB + "/resume", "train", partial(jobs.refused, "resume"), jobs.Anything, "Refused, as pausing is."),
)


def routes(platform: Platform) -> list[Route]:
    """The door of one home, ready to be mounted."""
    return mounted(platform, ROUTES, DIALECT)


__all__ = ["DIALECT", "ROUTES", "routes"]
