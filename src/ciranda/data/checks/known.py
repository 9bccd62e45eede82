"""The checks there are, by name, in the order in which they run."""

from __future__ import annotations

from ciranda.data.checks import among, rules, spread
from ciranda.data.checks.check import MASKING, Check, RowCheck, WholeCheck

WHOLE = ("block", "warn")  # of all rows together none can be left out

CHECKS: dict[str, Check] = {
    one.name: one
    for one in (
        RowCheck("schema", rules.schema),
        RowCheck("length", rules.length),
        RowCheck("language", rules.language),
        RowCheck("pii", rules.pii, MASKING),
        RowCheck("secrets", rules.secrets, MASKING),
        RowCheck("toxicity", rules.toxicity),
        WholeCheck("conflicts", among.said_and_answered, among.conflicts),
        WholeCheck("duplicates", among.examples, among.duplicates),
        WholeCheck("near_duplicates", spread.likeness, spread.near_duplicates),
        WholeCheck("contamination", among.phrases_and_groups, among.contamination),
        WholeCheck("balance", spread.named, spread.balance, WHOLE),
        WholeCheck("drift", spread.features, spread.drift, WHOLE),
    )
}
