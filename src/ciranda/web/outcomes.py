"""What became of trials, searches and runs that were trained again, in the reader's language."""

from __future__ import annotations

from collections.abc import Sequence
from gettext import NullTranslations

from ciranda.train import endings
from ciranda.web.formats import Formats
from ciranda.web.views.runs import Again


def ended(messages: NullTranslations, reason: str) -> str:
    """Why it ended, in one sentence; what an error said is shown as it came."""
    _ = messages.gettext
    kind, parts = endings.read(reason)
    told = {
        "behind": _("behind the median of the others at step %(step)s"), "halted": _("the search was stopped"),
        "ended": _("it was cancelled"), "cancelled": _("cancelled by %(actor)s"), "stopped": _("stopped by %(actor)s"),
        "exited": _("it ended with exit code %(code)s"), "of": _("trial %(number)s: %(reason)s"),
    }.get(kind)  # fmt: skip
    if told is None:
        return reason
    if "reason" in parts:
        parts["reason"] = ended(messages, parts["reason"])
    return told % parts


def counted(messages: NullTranslations, state: str, count: int) -> str:
    """So many trials of a state."""
    ngettext = messages.ngettext
    told = {
        "waiting": ngettext("%(num)s waiting", "%(num)s waiting", count),
        "running": ngettext("%(num)s running", "%(num)s running", count),
        "complete": ngettext("%(num)s complete", "%(num)s complete", count),
        "failed": ngettext("%(num)s failed", "%(num)s failed", count),
        "pruned": ngettext("%(num)s stopped early", "%(num)s stopped early", count),
        "cancelled": ngettext("%(num)s cancelled", "%(num)s cancelled", count),
    }.get(state, f"%(num)s {state}")
    return told % {"num": count}


def nearness(messages: NullTranslations, formats: Formats, one: Again) -> str:
    """How near a run that was trained again came to the first."""
    _ = messages.gettext
    if one.equal:
        return _("bit by bit the same")
    if not one.scores and one.apart is None:
        return ended(messages, one.summary)
    told = [_("not the same weights")]
    if one.apart is not None:
        told.append(_("%(share)s of their length apart") % {"share": formats.number(one.apart, 4)})
    names = {"exact_match": _("Exact match").lower(), "loss": _("Loss").lower()}
    for name, was, now in one.scores:
        figures = {"name": names.get(name, name), "was": formats.number(was, 4), "now": formats.number(now, 4)}
        told.append(_("%(name)s %(was)s then, %(now)s now") % figures)
    return "; ".join(told)


def otherwise(messages: NullTranslations, differences: Sequence[str]) -> str:
    """What was not as then: parts of the run by their names, packages by their versions."""
    _ = messages.gettext
    parts = {
        "code": _("code"), "rows": _("rows"), "validation": _("validation rows"), "base": _("base"), "recipe": _("recipe"),
        "init": _("the weights to go on from"),
    }  # fmt: skip
    told = []
    for one in differences:
        name, _colon, change = one.partition(": ")
        was, _then, now = change.removesuffix(" now").partition(" then, ")
        whole = _("%(name)s %(was)s then, %(now)s now") % {"name": f"{name}:", "was": was, "now": now}
        told.append(whole if now else parts.get(one, one))
    return ", ".join(told)
