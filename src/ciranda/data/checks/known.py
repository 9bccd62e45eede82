"""The checks there are, by name, in the order in which they run."""

from __future__ import annotations

from ciranda.data.checks import among, rules
from ciranda.data.checks.check import Check, RowCheck, WholeCheck

CHECKS: dict[str, Check] = {
    one.name: one
    for one in (
        RowCheck("schema", rules.schema),
        RowCheck("length", rules.length),
        RowCheck("pii", rules.pii, ("block", "drop", "mask", "warn")),
        RowCheck("toxicity", rules.toxicity),
        WholeCheck("conflicts", among.said_and_answered, among.conflicts),
        WholeCheck("duplicates", among.examples, among.duplicates),
        WholeCheck("contamination", among.phrases_and_groups, among.contamination),
    )
}
