"""A small API server in place of Kubernetes, which cannot run here: real HTTP, real schemas, and pods that are real processes.

It takes what the real one takes for `batch/v1` Jobs and refuses the rest: a Job is checked by the schemas of Kubernetes itself
(`kubernetes-validate`, strict), a second one of the same name is a 409, a token is asked for, a suspended Job waits to be admitted
as under Kueue. A pod's container is its command as a process of this machine, with the variables of its Job and of its Secrets;
`/scratch` is a folder here. What it does not show is what only a cluster can: images, volumes, scheduling.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

TOKEN = "a-token-of-the-cluster"
JOBS = re.compile(r"/apis/batch/v1/namespaces/([\w-]+)/jobs(?:/([\w-]+))?")
PODS = re.compile(r"/api/v1/namespaces/([\w-]+)/pods(?:/([\w-]+)(/log)?)?")


@dataclass
class Pod:
    """One container: a process, or a reason why there is none."""

    job: str
    process: subprocess.Popen[bytes] | None
    log: Path
    waiting: str = ""
    since: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


class Cluster:
    """The state of the server: Jobs by namespace and name, and their pods."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, threading.RLock()
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.secrets: dict[str, Mapping[str, str]] = {}
        self.missing_images: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.down = False
        self.url = ""

    def create(self, namespace: str, job: dict[str, Any]) -> tuple[int, Any]:
        name = job["metadata"]["name"]
        try:
            kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            return 422, _status(422, str(error.message))
        with self.lock:
            if (namespace, name) in self.jobs:
                return 409, _status(409, f'jobs.batch "{name}" already exists')
            self.jobs[namespace, name] = job
            if not job["spec"].get("suspend"):
                self._run(name, job)
            return 201, job

    def admit(self, name: str) -> None:
        """What Kueue does when there is room."""
        with self.lock:
            job = next(job for (_, one), job in self.jobs.items() if one == name)
            job["spec"]["suspend"] = False
            self._run(name, job)

    def _run(self, name: str, job: Mapping[str, Any]) -> None:
        container = job["spec"]["template"]["spec"]["containers"][0]
        log = self.folder / f"{name}.log"
        log.touch()
        if container["image"] in self.missing_images:
            self.pods[f"{name}-pod"] = Pod(name, None, log, "ErrImagePull")
            return
        scratch = self.folder / "scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        env = {one["name"]: one["value"].replace("/scratch", str(scratch)) for one in container["env"]}
        for source in container.get("envFrom", ()):
            env |= self.secrets[source["secretRef"]["name"]]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        src = str(Path(__file__).parents[1] / "src")
        with log.open("wb") as out:
            process = subprocess.Popen(
                container["command"], env={"PATH": path, "PYTHONPATH": src, **env}, stdout=out, stderr=out,
                start_new_session=True, cwd=scratch,
            )  # fmt: skip
        self.pods[f"{name}-pod"] = Pod(name, process, log)

    def shown(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Job with its status as of now."""
        with self.lock:
            job = self.jobs.get((namespace, name))
            pod = self.pods.get(f"{name}-pod")
        if job is None:
            return None
        code = pod.process.poll() if pod and pod.process else None
        if code is None:
            return {**job, "status": {"active": 1} if pod else {}}
        kind, reason = ("Complete", "Completions") if code == 0 else ("Failed", "BackoffLimitExceeded")
        told = "" if code == 0 else "Job has reached the specified backoff limit"
        return {**job, "status": {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": told}]}}

    def pods_of(self, selector: str) -> list[dict[str, Any]]:
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        with self.lock:
            return [_pod(name, pod) for name, pod in self.pods.items() if pod.job == wanted.get("job-name", pod.job)]

    def delete(self, namespace: str, name: str) -> bool:
        with self.lock:
            found = self.jobs.pop((namespace, name), None)
            pod = self.pods.pop(f"{name}-pod", None)
        if pod and pod.process:
            _end(pod.process)
        return found is not None

    def kill(self, name: str) -> None:
        """What a node's death, or its out-of-memory killer, does."""
        process = self.pods[f"{name}-pod"].process
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for namespace, name in list(self.jobs):
            self.delete(namespace, name)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _pod(name: str, pod: Pod) -> dict[str, Any]:
    state: dict[str, Any] = (
        {"running": {}} if pod.process else {"waiting": {"reason": pod.waiting, "message": "no such image"}}
    )
    meta = {"name": name, "labels": {"job-name": pod.job}, "creationTimestamp": pod.since}
    held = {"name": "job", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"containerStatuses": [held]}}


def _status(code: int, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "code": code,
        "reason": "Conflict",
    }


class Door(BaseHTTPRequestHandler):
    """HTTP for a Cluster."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if match := JOBS.fullmatch(url.path):
            if not match[2]:
                found = [
                    self.cluster.shown(match[1], name) for space, name in list(self.cluster.jobs) if space == match[1]
                ]
                return self._say(200, {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": found})
            job = self.cluster.shown(match[1], match[2])
            return self._say(200, job) if job else self._say(404, _status(404, f"no job {match[2]}"))
        if match := PODS.fullmatch(url.path):
            if not match[2]:
                pods = self.cluster.pods_of(asked.get("labelSelector", ""))
                return self._say(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
            pod = self.cluster.pods.get(match[2])
            if pod and match[3]:
                return (
                    self._send(200, pod.log.read_bytes(), "text/plain")
                    if pod.process
                    else self._say(400, _status(400, "waits"))
                )
        return self._say(404, _status(404, f"no {url.path}"))

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        match = JOBS.fullmatch(urlsplit(self.path).path)
        self._say(*(self.cluster.create(match[1], job) if match else (404, _status(404, self.path))))

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        match = JOBS.fullmatch(urlsplit(self.path).path)
        done = bool(match and match[2]) and self.cluster.delete(match[1], match[2])  # type: ignore[index]
        self._say(
            200 if done else 404, {"kind": "Status", "status": "Success"} if done else _status(404, "no such job")
        )

    def _say(self, code: int, value: Any) -> None:
        self._send(code, json.dumps(value).encode(), "application/json")

    def _send(self, code: int, body: bytes, kind: str) -> None:
        self.cluster.asked.append((self.command, urlsplit(self.path).path))
        if self.cluster.down:
            code, body = 503, json.dumps(_status(503, "etcd is away")).encode()
        elif self.headers.get("authorization") != f"Bearer {TOKEN}":
            code, body = 401, json.dumps(_status(401, "Unauthorized")).encode()
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def running() -> Iterator[Cluster]:
    """A server on a free port; its pods end with it."""
    folder = Path(tempfile.mkdtemp(prefix="ciranda-kube-"))
    cluster = Cluster(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OurDoor", (Door,), {"cluster": cluster}))
    cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        cluster.close()
        server.shutdown()
        server.server_close()
        thread.join()
        shutil.rmtree(folder, ignore_errors=True)
