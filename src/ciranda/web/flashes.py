"""What a button did, as one sentence in the reader's language: said once, on the page after the form."""

from __future__ import annotations

from collections.abc import Mapping
from gettext import NullTranslations
from typing import Any

from ciranda.web.formats import Formats


def sentence(messages: NullTranslations, formats: Formats, result: Mapping[str, Any]) -> str:
    """What a button did, in one sentence."""
    _ = messages.gettext
    text = {
        "rolled_back": _("All traffic of %(model)s goes to %(version)s now. It took %(took)s."),
        "promoted": _("All traffic of %(model)s goes to %(version)s."),
        "approved": _("%(model)s: approved, the release starts."),
        "said_yes": _("Your yes to %(version)s was kept."),
        "said_no": _("Your no to %(version)s was kept; it does not go out."),
        "turn": _("%(model)s: a turn of the loop was started."),
        "acknowledged": _("Alert acknowledged."),
        "cancelled": _("The trial was cancelled."),
        "reproducing": _("It is trained again; how near it comes stands here when it is done."),
        "revoked": _("The key %(name)s opens nothing any more."),
        "limited": _("The limits of %(name)s are in force."),
        "reverted": _("%(name)s is the newest version now."),
        "branched": _("%(name)s was begun."),
        "named": _("%(name)s is called %(given)s."),
        "unnamed": _("%(name)s is not called %(given)s any more."),
        "overridden": _("%(version)s counts as approved now, past its gates. It has no traffic by that."),
        "weights_removed": _("The weights of %(version)s are gone."),
        "described": _("What is said of %(name)s was changed."),
        "defined": _("The term %(name)s is in the glossary."),
        "undefined": _("The term %(name)s is not in the glossary any more."),
        "saved": _("Saved."),
        "judge_calibrating": _("%(name)s is shown what people labelled; it takes a while."),
        "replay_begun": _("%(name)s is asked what users asked the live version."),
        "review_right": _("Right: kept."),
        "review_wrong": _("Wrong: kept."),
        "review_skip": _("Skipped."),
        "review_correct": _("Correction kept."),
        "review_undone": _("Taken back; here it is again."),
        "review_filled": _("%(name)s items were chosen."),
        "review_committed": _("%(name)s was made of the labels."),
        "search_started": _("The search was started."),
        "search_stop": _("The search ends what runs."),
        "search_resume": _("The search goes on."),
        "search_workers": _("The number of workers was changed."),
        "ingest_asked": _("%(name)s: an ingestion begins."),
        "rows_retried": _("%(name)s: bad rows are read again."),
        "rows_dropped": _("%(name)s: bad rows were given up."),
    }.get(str(result.get("kind")), "")
    values = dict.fromkeys(("model", "version", "name"), "")
    seconds = result.get("seconds")
    values["took"] = formats.duration(seconds) if isinstance(seconds, (int, float)) else "–"
    return text % {**values, **{name: str(value) for name, value in result.items() if name != "took"}}
