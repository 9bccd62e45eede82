"""Sources of `dlt`: its own REST and SQL ones, the hundreds that others wrote, or a function of yours. The only file that
names it.

dlt keeps its state (which row was the last, whatever a source wants to remember) in a dictionary that belongs to a pipeline.
There is no pipeline here: the dictionary is our cursor, given before the first record and kept in the transaction that
registers the rows. Such a source is code that runs in control and calls whom it likes, so its module must be named in the
setting `connectors`."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from ciranda.config.source import Connector, Source
from ciranda.data.sources.found import Desk, Item
from ciranda.data.sources.mapping import field, written
from ciranda.data.sources.pages import secret
from ciranda.errors import CirandaError, Failed, Invalid, Refused, Unavailable


def items(source: Source, desk: Desk) -> Iterator[Item]:
    """Every item of the resource, from its own incremental state on."""
    assert source.dlt is not None
    made = _made(source.dlt, desk)
    from dlt.common.configuration.container import Container
    from dlt.common.exceptions import DltException
    from dlt.common.pipeline import StateInjectableContext

    state = json.loads(desk.cursor) if desk.cursor and not desk.again else {}
    name = f"{source.dlt.source}/{made.name}"
    try:
        with Container().injectable_context(StateInjectableContext(state=cast(Any, state))):
            for record in _records(made):
                desk.tally.add(size=len(written(record)))
                yield Item(f"{name}/{_identity(source, record)}", record)
    except CirandaError:
        raise
    except (DltException, OSError) as error:
        raise Unavailable(
            f"dlt says: {str(error).strip().splitlines()[0][:300]}", where=desk.label,
            remedy="it is tried again when the source is due; look at its arguments",
        ) from error  # fmt: skip
    desk.place.cursor = json.dumps(_plain(state), sort_keys=True)


def _made(connector: Connector, desk: Desk) -> Any:
    """The resource, made with its arguments and secrets."""
    module, _, function = connector.source.partition(":")
    if module not in desk.inputs.connectors:
        raise Refused(
            f"the module {module} is not among the connectors", where=desk.label,
            remedy=f'its code runs in control; let it: connectors = "{module}" in config.toml',
        )  # fmt: skip
    try:
        from dlt.extract import DltResource, DltSource
        from dlt.extract.reference import SourceFactory

        found = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise Unavailable(f"{error}", where=desk.label, remedy='install "ciranda[sources]" and the module') from error
    except AttributeError as error:
        raise Invalid(f"{error}", where=desk.label, remedy="write `source: module:function`") from error
    if not isinstance(found, DltResource | DltSource | SourceFactory):
        raise Invalid(
            f"{connector.source} is no source of dlt", where=desk.label, remedy="decorate it with @dlt.resource"
        )
    words = {name: secret(reference, desk.label) for name, reference in connector.secrets.items()}
    given = {**connector.args, **words}
    made = found if isinstance(found, DltSource) or (isinstance(found, DltResource) and not given) else found(**given)
    return _resource(made, connector, desk.label)


def _resource(made: Any, connector: Connector, where: str) -> Any:
    from dlt.extract import DltResource

    if isinstance(made, DltResource):
        return made
    named = dict(getattr(made, "resources", {}))
    if connector.resource in named:
        return named[connector.resource]
    if not connector.resource and len(named) == 1:
        return next(iter(named.values()))
    raise Invalid(
        f"no resource {connector.resource!r}", where=where, remedy=f"`resource` is one of {', '.join(named) or 'none'}"
    )


def _records(made: Iterable[Any]) -> Iterator[Any]:
    """What a resource yields, one record at a time; tables of Arrow are taken apart."""
    for found in made:
        if hasattr(found, "to_pylist"):
            yield from found.to_pylist()
        else:
            yield from found if isinstance(found, list) else (found,)


def _identity(source: Source, record: object) -> str:
    name = field(record, source.id) if source.id else None
    return str(name) if name is not None else hashlib.sha256(written(record).encode()).hexdigest()[:16]


def _plain(state: Any) -> Any:
    """The state as JSON; dlt writes times as it reads them."""
    try:
        return json.loads(json.dumps(state))
    except TypeError as error:
        if isinstance(state, Mapping):
            from dlt.common import json as theirs

            return json.loads(theirs.dumps(state))
        raise Failed(f"the state is no JSON: {error}", where="dlt", remedy="keep plain values in its state") from error
