"""Kubernetes: jobs as `batch/v1` Jobs, through the API server. The one file that names lightkube.

`manifest` renders a Job, a pure function, which `ciranda plan --manifests` prints; `Kubernetes` sends exactly that. The name
follows from the attempt, so a second creation is a 409 and no second job. One pod, never restarted by Kubernetes: another attempt
is ours to make, since it goes on from a checkpoint. With a queue named, the Job is suspended and labelled for Kueue, which lets it
begin when there is room. The pod has no rights in the cluster (no service account token), runs as nobody, gains no privileges, and
its only secrets are the keys of the Secret that the settings name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from ciranda.config import secret
from ciranda.errors import Failed, Invalid, Refused, Unauthenticated, Unavailable
from ciranda.jobs.orders import Address, Order
from ciranda.jobs.remote import Seen
from ciranda.store import clock
from ciranda.store.depot import FOLDER

ENTRY = "ciranda.jobs.errand"
KEPT_S = 86400  # an ended Job stays so long, for people who look
STUCK_S = 120.0
STUCK = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError")
SCRATCH = "/scratch"
CONTAINER = "job"
TIMEOUT_S = 30.0
NOBODY = 65532


@dataclass(frozen=True)
class Place:
    """What the settings say of a cluster.

    Args:
        image: With ciranda[train] of this version.
        queue: Kueue's local queue; empty: none.
        secret: A Secret of the namespace whose keys become variables of the job.
        claim: A volume claim, mounted where a depot that is a folder lies.
        account: The service account; empty: the namespace's default.
    """

    namespace: str
    image: str
    queue: str = ""
    secret: str = ""
    claim: str = ""
    account: str = ""


def manifest(place: Place, order: Order, address: Address) -> dict[str, Any]:
    """The Job that does an order. Raises Invalid when the place lacks what it needs."""
    if not place.image:
        raise Invalid(
            "no image to run jobs in",
            where="setting kubernetes_image",
            remedy="name an image with ciranda[train] in it",
        )
    labels = {"app.kubernetes.io/name": "ciranda-job", "app.kubernetes.io/managed-by": "ciranda"}
    queued = {"kueue.x-k8s.io/queue-name": place.queue} if place.queue else {}
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": KEPT_S,
        "template": {"metadata": {"labels": labels}, "spec": _pod(place, order, address)},
    }
    if order.timeout_s:
        spec["activeDeadlineSeconds"] = int(order.timeout_s)
    if place.queue:
        spec["suspend"] = True
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": order.name,
            "namespace": place.namespace,
            "labels": labels | queued,
            "annotations": {"ciranda/key": order.key, "ciranda/attempt": str(order.attempt)},
        },
        "spec": spec,
    }


def _pod(place: Place, order: Order, address: Address) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {}}]
    mounts = [{"name": "scratch", "mountPath": SCRATCH}]
    if address.depot.startswith(FOLDER):
        if not place.claim:
            raise Invalid(
                f"{address.depot} is a folder, and pods have no volume there", where="setting kubernetes_claim",
                remedy="name the volume claim that holds it, or let jobs_url be an s3:// address",
            )  # fmt: skip
        volumes.append({"name": "depot", "persistentVolumeClaim": {"claimName": place.claim}})
        mounts.append({"name": "depot", "mountPath": address.depot.removeprefix(FOLDER)})
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(place, order, address, mounts)],
        "volumes": volumes,
    }  # fmt: skip
    return {**pod, "serviceAccountName": place.account} if place.account else pod


def _container(place: Place, order: Order, address: Address, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    env = {"HOME": SCRATCH, "TMPDIR": SCRATCH, **order.env}
    found = Address(address.depot, order.place, order.attempt, address.endpoint, address.region, address.credentials)
    held: dict[str, Any] = {
        "name": CONTAINER,
        "image": place.image,
        "command": ["python", "-m", ENTRY, *found.arguments()],
        "env": [{"name": name, "value": value} for name, value in sorted(env.items())],
        "resources": _resources(order),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }
    return {**held, "envFrom": [{"secretRef": {"name": place.secret}}]} if place.secret else held


def _resources(order: Order) -> dict[str, Any]:
    """Requested and, but for processors, bound: memory above it ends the job, processors only make it slower."""
    firm = {**({"memory": f"{int(order.memory_gb * 1024)}Mi"} if order.memory_gb else {})}
    firm |= {"nvidia.com/gpu": str(order.gpus)} if order.gpus else {}
    requests = {"cpu": f"{int(order.cpus * 1000)}m", **firm}
    return {"requests": requests, **({"limits": firm} if firm else {})}


class Kubernetes:
    """A cluster by its API server (`jobs.remote.Cluster`).

    Args:
        config: A kubeconfig's path, with `#context` for another than its current one; `in-cluster`; or the server's address.
        token: A reference to the bearer token, with an address.
        authority: The server's certificate authority as a PEM file, with an address.
        address: Where its jobs find their orders; completed with place and attempt.
    """

    kind = "kubernetes"

    def __init__(self, config: str, token: str, authority: str, place: Place, address: Address) -> None:
        self.place, self._address = place, address
        self._client = _client(config, token, authority, place.namespace)
        self._where = config

    def start(self, order: Order) -> None:
        """Create the Job; one that is there already is left as it is."""
        from lightkube.resources.batch_v1 import Job

        wanted = Job.from_dict(manifest(self.place, order, self._address))
        self._call(lambda: self._client.create(wanted), fine=(409,))

    def look(self, name: str) -> Seen:
        """How the Job stands; one whose pod cannot start for long counts as ended, with the reason."""
        from lightkube.resources.batch_v1 import Job

        job = self._call(lambda: self._client.get(Job, name), fine=(404,))
        if job is None:
            return Seen("absent")
        for condition in (job.status and job.status.conditions) or ():
            if condition.type in ("Complete", "Failed") and condition.status == "True":
                return Seen("ended", f"{condition.reason or condition.type}: {condition.message or ''}".strip(": "))
        if job.spec is not None and job.spec.suspend:
            return Seen("running", f"waits in the queue {self.place.queue}")
        return self._waiting(name)

    def _waiting(self, name: str) -> Seen:
        for pod in self._pods(name):
            for status in (pod.status and pod.status.containerStatuses) or ():
                waits = status.state.waiting if status.state else None
                if waits is None:
                    continue
                told, made = f"{waits.reason}: {waits.message or ''}".strip(": ")[:300], pod.metadata.creationTimestamp
                age = (clock.now() - made.replace(tzinfo=made.tzinfo or UTC)).total_seconds() if made else 0.0
                return Seen("ended" if waits.reason in STUCK and age > STUCK_S else "running", f"the pod waits: {told}")
        return Seen("running")

    def log(self, name: str) -> bytes:
        """What its newest pod has printed so far."""
        pods = sorted(self._pods(name), key=lambda pod: str(pod.metadata.creationTimestamp))
        for pod in reversed(pods):
            lines = self._call(
                lambda pod=pod: list(self._client.log(pod.metadata.name, container=CONTAINER)), fine=(400, 404)
            )
            if lines:
                return "".join(lines).encode()
        return b""

    def stop(self, name: str, *, grace_s: float) -> None:
        """Delete the Job, its pods first; what it printed goes with it, so that is read before."""
        from lightkube.resources.batch_v1 import Job
        from lightkube.types import CascadeType

        self._call(lambda: self._client.delete(Job, name, cascade=CascadeType.FOREGROUND), fine=(404,))

    def check(self) -> str:
        """Who is there, and whether jobs may be made. Raises Unavailable, Unauthenticated, Refused."""
        from lightkube.resources.batch_v1 import Job

        self._call(lambda: list(self._client.list(Job, chunk_size=1)))
        return f"Kubernetes, namespace {self.place.namespace}"

    def _pods(self, name: str) -> list[Any]:
        from lightkube.resources.core_v1 import Pod

        return list(self._call(lambda: list(self._client.list(Pod, labels={"job-name": name})), fine=(404,)) or ())

    def _call(self, ask: Any, *, fine: tuple[int, ...] = ()) -> Any:
        """The API's answer, or None for a status that is fine."""
        import httpx2
        from lightkube import ApiError

        try:
            return ask()
        except ApiError as error:
            code, told = int(error.status.code or 0), str(error.status.message or error)[:400]
            if code in fine:
                return None
            raise self._trouble(code, told) from error
        except httpx2.HTTPStatusError as error:
            if error.response.status_code in fine:
                return None
            raise self._trouble(error.response.status_code, str(error)[:400]) from error
        except (httpx2.HTTPError, OSError) as error:
            raise Unavailable(
                f"Kubernetes does not answer: {type(error).__name__}: {error}", where=self._where,
                remedy="start it, or correct the setting `kubernetes`",
            ) from error  # fmt: skip

    def _trouble(self, code: int, told: str) -> Failed | Refused | Unauthenticated | Unavailable:
        if code == 401:
            return Unauthenticated(told, where=self._where, remedy="correct kubernetes_token, or the kubeconfig")
        if code in (403, 422):
            remedy = "give its account the rights on jobs, pods and pods/log" if code == 403 else "read what it wants"
            return Refused(f"Kubernetes refuses: {told}", where=f"namespace {self.place.namespace}", remedy=remedy)
        if code in (429, 500, 502, 503, 504):
            return Unavailable(f"Kubernetes answers {code}: {told}", where=self._where, remedy="it is tried again")
        return Failed(f"Kubernetes answers {code}: {told}", where=self._where, remedy="check namespace and rights")


def _client(config: str, token: str, authority: str, namespace: str) -> Any:
    try:
        import httpx2
        from lightkube import Client, KubeConfig
        from lightkube.config.models import Cluster, User
        from lightkube.core.exceptions import ConfigError
    except ImportError as error:
        raise Unavailable(
            "the executor `kubernetes` needs lightkube", where="lightkube", remedy='pip install "ciranda[kubernetes]"'
        ) from error
    try:
        if config == "in-cluster":
            found = KubeConfig.from_service_account()
        elif config.startswith(("http://", "https://")):
            found = KubeConfig.from_one(
                cluster=Cluster(server=config, certificate_auth=authority or None),
                user=User(token=_word(token)) if token else User(),
            )
        else:
            path, _, context = config.partition("#")
            chosen = KubeConfig.from_file(str(Path(path).expanduser()))
            return Client(
                chosen.get(context or None), namespace=namespace, timeout=httpx2.Timeout(TIMEOUT_S), trust_env=False
            )
        return Client(found.get(), namespace=namespace, timeout=httpx2.Timeout(TIMEOUT_S), trust_env=False)
    except (ConfigError, OSError, ValueError, KeyError) as error:
        raise Invalid(
            f"no cluster at {config!r}: {error}", where="setting kubernetes",
            remedy="write a kubeconfig's path (path#context), in-cluster, or the API server's address",
        ) from error  # fmt: skip


def _word(reference: str) -> str:
    if (word := secret(reference)) is None:
        raise Unauthenticated(
            f"no token at {reference}", where="setting kubernetes_token", remedy="put the token there"
        )
    return word
