"""Jobs elsewhere: sent once, followed, run again when they were lost, and the same artefact comes back as from here.

The cluster here is the double of Kubernetes (`kubeapi`), whose pods are real processes; `test_ray.py` asks a real Ray the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import errands
import kubeapi
from ciranda.config import Home, Settings
from ciranda.config import model as models
from ciranda.engines.kubernetes import Kubernetes, Place, manifest
from ciranda.errors import Conflict, Failed, Invalid, Refused, Unauthenticated, Unavailable
from ciranda.jobs import errand, orders
from ciranda.jobs.local import JobSpec
from ciranda.jobs.orders import Address, Order
from ciranda.jobs.placed import Placed
from ciranda.jobs.remote import Remote
from ciranda.loop import places
from ciranda.store import depot
from ciranda.train.run import Jobs

KEY = "train:search:house:1:0"
PLACE = Place("models", "ciranda:test", claim="shared")


def until(condition: Callable[[], Any], *, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[kubeapi.Cluster]:
    with kubeapi.running() as found:
        yield found


@pytest.fixture
def api(server: kubeapi.Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[kubeapi.Cluster]:
    """The server, empty again afterwards."""
    monkeypatch.setenv("KUBE_TOKEN", kubeapi.TOKEN)
    monkeypatch.setattr("ciranda.jobs.remote.LOOK_S", 0.05)
    yield server
    server.close()
    server.pods.clear()
    server.asked.clear()
    server.down = False


def remote(
    api: kubeapi.Cluster, folder: Path, *, mark: str = "home-a", place: Place = PLACE, home: str = "a"
) -> Remote:
    url = f"file:{folder}/depot"
    cluster = Kubernetes(api.url, "env:KUBE_TOKEN", "", place, Address(url, "", 1))
    return Remote(folder / home / "jobs", cluster, depot.at(url), mark)


def ended(trainer: Jobs, key: str = KEY) -> str:
    return str(until(lambda: (state := trainer.status(key).state) != "running" and state))


def name_of(there: Remote, key: str = KEY) -> str:
    return str(json.loads((there.root / key / "away.json").read_text())["name"])


# --- a run, there and here ------------------------------------------------------------------------------------------------


def test_the_same_artefact_comes_back_as_from_here(api: kubeapi.Cluster, tmp_path: Path) -> None:
    spec, there = errands.spec(tmp_path), remote(api, tmp_path)
    sent, here = errands.away(tmp_path, there), errands.local(tmp_path / "here")
    for trainer in (sent, here):
        trainer.submit(KEY, spec)
    assert ended(sent) == ended(here) == "succeeded"
    one, two = sent.collect(KEY), here.collect(KEY)
    assert errands.artefact(one.folder) == errands.artefact(two.folder)
    assert (one.exact_match, one.loss, one.curve) == (two.exact_match, two.loss, two.curve)
    assert sent.curve(KEY) == here.curve(KEY)
    assert sent.collect(KEY).folder == there.root / KEY / "output"  # again: nothing is fetched twice
    assert there.depot.names("home-a") == []  # neither rows nor weights stay behind
    assert there.depot.names("shared")  # the base does, for the next run


def test_submitting_twice_makes_one_job(api: kubeapi.Cluster, tmp_path: Path) -> None:
    spec, there = errands.spec(tmp_path), remote(api, tmp_path)
    trainer = errands.away(tmp_path, there)
    for _ in range(3):
        trainer.submit(KEY, spec)
    assert [path for verb, path in api.asked if verb == "POST"] == ["/apis/batch/v1/namespaces/models/jobs"]
    assert ended(trainer) == "succeeded"
    trainer.submit(KEY, spec)  # finished is finished
    assert len(api.jobs) == 1


def test_a_submission_that_was_cut_off_is_made_again_under_its_name(api: kubeapi.Cluster, tmp_path: Path) -> None:
    """kill -9 after the cluster took the job and before that was written down."""
    spec, there = errands.spec(tmp_path), remote(api, tmp_path)
    trainer = errands.away(tmp_path, there)
    trainer.submit(KEY, spec)
    ticket = there.root / KEY / "away.json"
    ticket.write_text(json.dumps(json.loads(ticket.read_text()) | {"begun": False}))
    again = errands.away(tmp_path, remote(api, tmp_path))
    assert again.status(KEY).state == "gone"
    again.submit(KEY, spec)
    assert len(api.jobs) == 1
    assert ended(again) == "succeeded"


def test_a_wrong_recipe_is_said_as_if_it_ran_here(api: kubeapi.Cluster, tmp_path: Path) -> None:
    trainer = errands.away(tmp_path, remote(api, tmp_path))
    broken = errands.spec(tmp_path)
    broken.rows.write_text("no json\n")
    trainer.submit("train:broken", broken)
    assert ended(trainer, "train:broken") == "failed"
    assert "no training row" in trainer.status("train:broken").reason
    with pytest.raises(Failed, match="is failed"):
        trainer.collect("train:broken")


def test_a_killed_pod_is_lost_and_the_next_goes_on_from_its_checkpoint(api: kubeapi.Cluster, tmp_path: Path) -> None:
    spec, there = errands.spec(tmp_path, steps=errands.LONG), remote(api, tmp_path)
    trainer = errands.away(tmp_path, there)
    trainer.submit(KEY, spec)
    until(lambda: there.depot.names(f"home-a/{KEY}/state"))
    api.kill(name_of(there))
    assert ended(trainer) == "gone"
    assert "ended it without a result" in trainer.status(KEY).reason
    trainer.submit(KEY, spec)
    assert ended(trainer) == "succeeded"
    result, here = trainer.collect(KEY), errands.local(tmp_path / "here")
    assert result.about["resumed_at"] > 0
    assert name_of(there).endswith("-2")
    here.submit(KEY, spec)
    assert ended(here) == "succeeded"
    assert errands.artefact(result.folder) == errands.artefact(here.collect(KEY).folder)


def test_the_third_loss_is_a_failure_that_tells_the_log(api: kubeapi.Cluster, tmp_path: Path) -> None:
    spec, there = errands.spec(tmp_path, steps=errands.LONG), remote(api, tmp_path)
    trainer = errands.away(tmp_path, there)
    for attempt in (1, 2, 3):
        trainer.submit(KEY, spec)
        assert name_of(there).endswith(f"-{attempt}")
        api.kill(name_of(there))
        until(lambda: trainer.status(KEY).state != "running")
    assert trainer.status(KEY).state == "failed"
    assert "3 times" in trainer.status(KEY).reason


def test_cancelling_frees_the_cluster_and_brings_the_checkpoint_home(api: kubeapi.Cluster, tmp_path: Path) -> None:
    spec, there = errands.spec(tmp_path, steps=errands.LONG), remote(api, tmp_path)
    trainer = errands.away(tmp_path, there)
    trainer.submit(KEY, spec)
    until(lambda: there.depot.names(f"home-a/{KEY}/state"))
    assert trainer.curve(KEY)
    trainer.halt(KEY)
    assert trainer.status(KEY).reason == "it was cancelled"
    assert api.jobs == {}
    assert json.loads((there.root / KEY / "output/checkpoint.json").read_text())["step"] > 0
    assert there.depot.names("home-a") == []
    trainer.submit(KEY, spec)
    assert api.jobs == {}


def test_what_a_run_has_elsewhere_is_forgotten_with_its_rows(api: kubeapi.Cluster, tmp_path: Path) -> None:
    """As when a person is erased: also of a run that goes on, and without a cluster when nothing is left there."""
    spec, there = errands.spec(tmp_path, steps=errands.LONG), remote(api, tmp_path)
    errands.away(tmp_path, there).submit(KEY, spec)
    assert there.depot.names("home-a")
    Placed(there.root, {"kubernetes": lambda: there}).forget(KEY)
    assert (api.jobs, there.depot.names("home-a")) == ({}, [])
    Placed(there.root, {}).forget(KEY)
    Placed(there.root, {}).forget("never")


def test_a_run_past_its_time_is_ended(api: kubeapi.Cluster, tmp_path: Path) -> None:
    there = remote(api, tmp_path)
    trainer = errands.away(tmp_path, there, timeout_s=1.0)
    trainer.submit(KEY, errands.spec(tmp_path, steps=errands.LONG))
    assert ended(trainer) == "failed"
    assert trainer.status(KEY).reason == "it ran longer than 1 s"
    assert api.jobs == {}


def test_two_installations_share_depot_and_cluster(api: kubeapi.Cluster, tmp_path: Path) -> None:
    spec = errands.spec(tmp_path)
    both = [remote(api, tmp_path, mark=f"home-{name}", home=name) for name in "ab"]
    trainers = [errands.away(tmp_path, one) for one in both]
    for trainer in trainers:
        trainer.submit(KEY, spec)
    assert len(api.jobs) == 2
    assert [ended(trainer) for trainer in trainers] == ["succeeded", "succeeded"]
    folders = [trainer.collect(KEY).folder for trainer in trainers]
    assert errands.artefact(folders[0]) == errands.artefact(folders[1])


def test_an_output_that_was_changed_on_the_way_is_not_taken(api: kubeapi.Cluster, tmp_path: Path) -> None:
    there = remote(api, tmp_path)
    trainer = errands.away(tmp_path, there)
    trainer.submit(KEY, errands.spec(tmp_path))
    assert ended(trainer) == "succeeded"
    there.depot.put(f"home-a/{KEY}/out-1/adapter.gguf", b"other weights")
    with pytest.raises(Failed, match="its digest differs"):
        trainer.collect(KEY)
    assert not (there.root / KEY / "output").exists()


def test_a_silent_cluster_is_no_news_for_a_while(
    api: kubeapi.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = remote(api, tmp_path)
    trainer = errands.away(tmp_path, there)
    trainer.submit(KEY, errands.spec(tmp_path))
    api.down = True
    time.sleep(0.06)
    state = there.status(KEY)
    assert (state.state, "no answer since" in state.reason) == ("running", True)
    monkeypatch.setattr("ciranda.jobs.remote.SILENCE_S", 0.0)
    time.sleep(0.06)
    with pytest.raises(Unavailable, match="etcd is away"):
        there.status(KEY)
    api.down = False
    assert ended(trainer) == "succeeded"


def test_logs_of_a_pod_come_home(api: kubeapi.Cluster, tmp_path: Path) -> None:
    there = remote(api, tmp_path)
    script = "import time; print('hello from the pod', flush=True); open('output', 'w'); time.sleep(0.2); raise SystemExit(3)"
    (there.root / "say").mkdir(parents=True)
    there.submit("say", JobSpec(("python", "-c", script), there.root / "say"))
    until(lambda: there.logs("say")[0])
    until(lambda: there.status("say").state == "failed")
    assert there.logs("say") == (b"hello from the pod\n", 19)
    assert there.logs("say", 6) == (b"from the pod\n", 19)
    assert "exit code 3" in there.status("say").reason


def test_a_path_of_this_machine_is_refused_before_anything_is_sent(api: kubeapi.Cluster, tmp_path: Path) -> None:
    there = remote(api, tmp_path)
    with pytest.raises(Conflict, match="/etc/hostname is a path of this machine"):
        there.submit("read", JobSpec(("cat", "/etc/hostname"), there.root / "read"))
    assert api.jobs == {}


def test_another_version_of_ciranda_there_is_refused(api: kubeapi.Cluster, tmp_path: Path) -> None:
    store = depot.at(f"file:{tmp_path}/depot")
    store.put("m/k/order-1.json", Order("n", "k", "m/k", 1, ("true",), version="0.0.1").text())
    with pytest.raises(Refused, match=r"control is Ciranda 0\.0\.1"):
        errand.order(store, "m/k", 1)
    assert errand.main(Address(store.url, "m/k", 1).arguments()) == Refused.exit_code
    told = json.loads(store.get("m/k/end-1.json") or b"{}")
    assert "ciranda[train]==0.0.1" in told["error"]["remedy"]


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "a/../../b", "", "a\\b"])
def test_no_name_leads_out_of_a_depot(tmp_path: Path, name: str) -> None:
    store = depot.at(f"file:{tmp_path}/depot")
    with pytest.raises(Invalid, match="leads out"):
        store.put(name, b"")
    with pytest.raises(Invalid, match="leads out"):
        orders.fetched(store, "x", {name: {"sha256": ""}}, tmp_path)


# --- Kubernetes -----------------------------------------------------------------------------------------------------------

ORDER = Order(
    "ciranda-0123-1", KEY, f"m/{KEY}", 1, (orders.PYTHON, "-m", errands.ENTRY, orders.FOLDER), {"OMP_NUM_THREADS": "4"},
    (), 4, 8.5, 1, 3600.0,
)  # fmt: skip
BUCKET = Address("s3://bucket/jobs", "", 1, "https://s3.internal:9000", "eu-west-1", "env:S3_PAIR")


@pytest.mark.parametrize(
    ("place", "address"),
    [
        (Place("models", "registry.internal/ciranda:0.1"), BUCKET),
        (Place("models", "ciranda:0.1", queue="trainers", secret="ciranda-s3", account="trainer"), BUCKET),
        (Place("models", "ciranda:0.1", claim="shared"), Address("file:/shared/jobs", "", 1)),
    ],
)
def test_a_manifest_is_what_kubernetes_takes(place: Place, address: Address) -> None:
    made = manifest(place, ORDER, address)
    kubernetes_validate.validate(made, kubernetes_validate.latest_version(), strict=True)
    pod = made["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "4000m", "memory": "8704Mi", "nvidia.com/gpu": "1"}
    assert container["command"][:3] == ["python", "-m", "ciranda.jobs.errand"]
    assert (made["spec"]["backoffLimit"], pod["restartPolicy"], pod["automountServiceAccountToken"]) == (
        0,
        "Never",
        False,
    )
    assert made["spec"]["activeDeadlineSeconds"] == 3600
    assert made["spec"].get("suspend", False) == bool(place.queue)
    assert made["metadata"]["labels"].get("kueue.x-k8s.io/queue-name", "") == place.queue


def test_secrets_are_named_and_never_written() -> None:
    text = json.dumps(manifest(Place("models", "i", secret="ciranda-s3"), ORDER, BUCKET))
    assert "env:S3_PAIR" in text
    assert '"secretRef": {"name": "ciranda-s3"}' in text


def test_what_a_job_cannot_do_without_is_asked_for() -> None:
    with pytest.raises(Invalid, match="no image"):
        manifest(Place("models", ""), ORDER, BUCKET)
    with pytest.raises(Invalid, match="pods have no volume there"):
        manifest(Place("models", "i"), ORDER, Address("file:/shared", "", 1))


def test_a_queued_job_waits_until_kueue_lets_it_begin(api: kubeapi.Cluster, tmp_path: Path) -> None:
    there = remote(api, tmp_path, place=Place("models", "i", queue="trainers", claim="shared"))
    trainer = errands.away(tmp_path, there)
    trainer.submit(KEY, errands.spec(tmp_path))
    until(lambda: there.status(KEY).reason == "waits in the queue trainers")
    api.admit(name_of(there))
    assert ended(trainer) == "succeeded"


def test_an_image_that_is_not_there_is_said_while_it_waits_and_ends_the_job_later(
    api: kubeapi.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.missing_images.add("absent:1")
    there = remote(api, tmp_path, place=Place("models", "absent:1", claim="shared"))
    trainer = errands.away(tmp_path, there)
    trainer.submit(KEY, errands.spec(tmp_path))
    until(lambda: "ErrImagePull: no such image" in there.status(KEY).reason)
    monkeypatch.setattr("ciranda.engines.kubernetes.STUCK_S", -1.0)
    assert ended(trainer) == "gone"


def test_a_wrong_token_is_told_apart_from_a_silent_server(
    api: kubeapi.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", "wrong")
    url = Address("file:/d", "", 1)
    assert Kubernetes(api.url, "env:KUBE_TOKEN", "", PLACE, url).check() == "Kubernetes, namespace models"
    with pytest.raises(Unauthenticated):
        Kubernetes(api.url, "env:OTHER", "", PLACE, url).check()
    with pytest.raises(Unauthenticated, match="no token at env:NOWHERE"):
        Kubernetes(api.url, "env:NOWHERE", "", PLACE, url)
    with pytest.raises(Unavailable):
        Kubernetes("http://127.0.0.1:9", "env:KUBE_TOKEN", "", PLACE, url).check()


def test_a_cluster_is_found_by_kubeconfig_and_context(api: kubeapi.Cluster, tmp_path: Path) -> None:
    contexts = {"here": api.url, "elsewhere": "http://127.0.0.1:9"}
    file = tmp_path / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "current-context": "elsewhere",
                "clusters": [{"name": name, "cluster": {"server": url}} for name, url in contexts.items()],
                "users": [{"name": "me", "user": {"token": kubeapi.TOKEN}}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in contexts],
            }
        )
    )
    url = Address("file:/d", "", 1)
    assert Kubernetes(f"{file}#here", "", "", PLACE, url).check().startswith("Kubernetes")
    with pytest.raises(Unavailable):
        Kubernetes(str(file), "", "", PLACE, url).check()
    with pytest.raises(Invalid, match="no cluster at"):
        Kubernetes(f"{file}#absent", "", "", PLACE, url)


# --- settings and model files ---------------------------------------------------------------------------------------------


def test_a_model_that_no_cluster_would_train_is_refused_when_it_is_planned() -> None:
    spec = models.read("model: m\ntrain: {executor: ray}\n", file="m.yaml")
    with pytest.raises(Invalid, match="no cluster for executor 'ray'"):
        places.check(Settings(), spec)
    with pytest.raises(Invalid, match="a place for files"):
        places.check(Settings(ray_url="http://head:8265"), spec)
    places.check(Settings(ray_url="http://head:8265", jobs_url="file:/shared"), spec)


def test_every_executor_says_whether_it_is_there(api: kubeapi.Cluster, tmp_path: Path) -> None:
    settings = Settings(
        jobs_url=f"file:{tmp_path}/depot", kubernetes=api.url, kubernetes_token="env:KUBE_TOKEN", ray_url="http://127.0.0.1:9"
    )  # fmt: skip
    found = {one.name: one for one in places.look(settings)}
    assert [one.state for one in found.values()] == ["ready", "trouble", "ready"]
    assert "Ray does not answer" in found["ray"].told


def test_an_installation_is_named_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    assert places.mark(home) == places.mark(home)
    assert Placed(home.jobs, {}).keys() == []
