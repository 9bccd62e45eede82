"""Where heavy work runs: the executors that the settings name, and the Jobs that training on Kubernetes would make."""

from __future__ import annotations

from dataclasses import asdict

from ciranda.config import model as files
from ciranda.loop import picks, places
from ciranda.web.api import rows
from ciranda.web.api.asked import Files, Nothing
from ciranda.web.api.door import Call
from ciranda.web.api.rows import Item


def listing(call: Call[Nothing]) -> Item:
    """Every executor there may be, asked whether it is there."""
    return rows.listed([asdict(one) for one in places.look(call.platform.settings)], None)


def manifests(call: Call[Files]) -> Item:
    """One Job for each of these models that trains on Kubernetes, as it would be sent there."""
    found = []
    for name, text in call.asked.files.items():
        spec = files.read(text, file=name)
        call.require(spec.model, right="plan")
        if spec.train.executor == "kubernetes":
            found.append(places.manifest(call.platform.settings, spec, picks.entry(spec)))
    return rows.listed(found, None)
