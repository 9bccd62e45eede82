"""Templates: one environment per language, strict about every name, escaping everything.

A page is its layout with the chrome around it, or, for htmx, the main part alone: the same template extends `page.layout`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ciranda.web import charts, graphs, i18n, parallel
from ciranda.web.views import live
from ciranda.web.views.live import colour_of

FOLDER = Path(__file__).parent / "templates"


@lru_cache
def environment(tag: str) -> Environment:
    """The templates in one language."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
    )
    messages = i18n.messages(tag)
    # The i18n extension adds this method to the environment.
    made.install_gettext_callables(messages.gettext, messages.ngettext, newstyle=True)  # type: ignore[attr-defined]
    made.globals.update(line_=charts.Line, box_=graphs.Box, graph_=graphs.draw)
    made.globals.update(colour=colour_of, live_=live, charts_=charts, parallel_=parallel, languages=i18n.LANGUAGES)
    made.filters.update(json_script=json_script, pair=pair, log10=log10)
    return made


def pair(value: str) -> tuple[str, str]:
    """A choice whose value is its text."""
    return value, value


def log10(value: float) -> float:
    """Where a number stands on an axis of powers of ten."""
    return math.log10(max(value, 1e-9))


def json_script(text: str) -> Markup:
    """JSON for a `<script type="application/json">`: nothing in it can end the element."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped here


def render(template: str, tag: str, values: dict[str, Any]) -> str:
    """One page or fragment."""
    return environment(tag).get_template(template).render(values)
