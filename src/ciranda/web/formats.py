"""Numbers, durations and dates as people of one language write them. The browser's twin is `static/js/formats.js`.

Both are held to `tests/web/vectors.json`. Times are stored in UTC and shown in the zone the browser told us (a cookie), with
the offset in the title; the clock has 24 hours. An unknown zone is UTC, never an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ciranda.store import clock

MONTHS = {
    "en": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    "pt-BR": ["jan", "fev", "mar", "abr", "mai", "jun", "jul", "ago", "set", "out", "nov", "dez"],
}
THOUSANDS = {"en": ("k", "M", "B"), "pt-BR": (" mil", " mi", " bi")}
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
NONE = "–"


@lru_cache(maxsize=512)
def zone(name: str) -> tzinfo:
    """The zone of that IANA name, else UTC."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


@dataclass(frozen=True)
class Formats:
    """The writing habits of one language, in one time zone."""

    tag: str = "en"
    zone_name: str = ""

    def number(self, value: float | None, digits: int = 0) -> str:
        """`1,234.5`; in Portuguese `1.234,5`."""
        if value is None:
            return NONE
        text = f"{value:,.{digits}f}"
        return text if self.tag == "en" else text.translate(str.maketrans(",.", ".,"))

    def setting(self, value: object) -> str:
        """A value of a recipe: three digits of a number, a name as it is, several with commas, true and false as in files."""
        if isinstance(value, list | tuple):
            return ", ".join(map(self.setting, value))
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            whole = value == 0 or float(value).is_integer()
            return self.number(value, 0 if whole else max(0, 2 - math.floor(math.log10(abs(value)))))
        return str(value) if value not in ("", None) else NONE

    def compact(self, value: float | None) -> str:
        """`48.2k`, `1.2M`; small numbers as they are."""
        if value is None:
            return NONE
        size, unit = float(value), ""
        for unit_next in THOUSANDS[self.tag]:
            if abs(size) < 1000:
                break
            size, unit = size / 1000, unit_next
        return self.number(size, 0 if not unit or abs(size) >= 100 else 1) + unit

    def rate(self, value: float | None) -> str:
        """Something per second: `0.25`, `4.1`, `1,204`."""
        return self.number(value, 0 if value is None or value >= 1000 else 2 if 0 < value < 1 else 1)

    def percent(self, share: float | None, digits: int = 1) -> str:
        """A share in [0, 1] as `12.3%`; a whole number of percent drops its zero, below one percent there is a digit more."""
        if share is None:
            return NONE
        value = share * 100
        off = abs(value - round(value))
        if digits == 0 or off < 0.005 or (abs(value) >= 1 and off < 0.05):
            return f"{self.number(value)}%"
        return f"{self.number(value, max(digits, 2) if abs(value) < 1 else digits)}%"

    def points(self, share: float | None) -> str:
        """The size of a difference of shares, in percentage points: `12.3 pp`."""
        if share is None:
            return NONE
        return f"{self.number(share * 100, 2 if 0 < abs(share) < 0.01 else 1)} pp"

    def two(self, value: float) -> str:
        """Two digits, for an axis."""
        return self.number(value, 2)

    def whole(self, value: float) -> str:
        """None, for an axis."""
        return self.number(value)

    def power(self, exponent: float) -> str:
        """A mark on an axis of powers of ten: 2 is 100; between whole powers there is none."""
        return self.compact(10 ** round(exponent)) if abs(exponent - round(exponent)) < 1e-6 else ""

    def figure(self, value: object) -> str:
        """A number of unknown kind as it reads best, anything else as text."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return str(value)
        return self.number(value, 0 if isinstance(value, int) or abs(value) >= 100 else 3)

    def ms(self, value: float | None) -> str:
        """Milliseconds, from a second on as `1.24 s`."""
        if value is None:
            return NONE
        return f"{self.number(value)} ms" if value < 1000 else f"{self.number(value / 1000, 2)} s"

    def duration(self, seconds: float | None) -> str:
        """`0.8 s`, `38 min`, `2 h 05 min`, `31 d`: the two coarsest units that say enough."""
        if seconds is None:
            return NONE
        if seconds < 10:
            return f"{self.number(seconds, 1)} s"
        if seconds < MINUTE:
            return f"{self.number(seconds)} s"
        if seconds < HOUR:
            return f"{int(seconds // MINUTE)} min"
        if seconds < DAY:
            return f"{int(seconds // HOUR)} h {int(seconds % HOUR // MINUTE):02d} min"
        return f"{int(seconds // DAY)} d"

    def bytes(self, value: float | None) -> str:
        """`1.2 MB`, powers of 1000."""
        if value is None:
            return NONE
        for unit in ("B", "kB", "MB", "GB"):
            if abs(value) < 1000 or unit == "GB":
                return f"{self.number(value, 0 if unit == 'B' or abs(value) >= 100 else 1)} {unit}"
            value /= 1000
        return NONE

    def moment(self, iso: str) -> datetime:
        """A stored time in the reader's zone."""
        return clock.parse(iso).astimezone(zone(self.zone_name))

    def date(self, iso: str) -> str:
        """`23 Nov 2026`."""
        at = self.moment(iso)
        return f"{at.day} {MONTHS[self.tag][at.month - 1]} {at.year}"

    def clock(self, iso: str, *, seconds: bool = False) -> str:
        """`14:03`, or with seconds."""
        return self.moment(iso).strftime("%H:%M:%S" if seconds else "%H:%M")

    def full(self, iso: str) -> str:
        """Everything: `23 Nov 2026 14:03:22 UTC-03:00`."""
        at = self.moment(iso)
        return f"{self.date(iso)} {at:%H:%M:%S} UTC{_offset(at)}".replace("UTC+00:00", "UTC")

    def when(self, iso: str, *, seconds: bool = False) -> str:
        """The shortest that is clear: today's time, this year's day and time, else the date."""
        at, today = self.moment(iso), clock.now().astimezone(zone(self.zone_name))
        time = at.strftime("%H:%M:%S" if seconds else "%H:%M")
        if at.date() == today.date():
            return time
        day = f"{at.day} {MONTHS[self.tag][at.month - 1]}"
        return f"{day} {time}" if at.year == today.year else f"{day} {at.year}"

    def stamp(self, seconds: float) -> str:
        """The time of day of a Unix time, for an axis."""
        return datetime.fromtimestamp(seconds, zone(self.zone_name)).strftime("%H:%M")

    def day(self, seconds: float) -> str:
        """The day of a Unix time, for an axis: `23 Nov`."""
        at = datetime.fromtimestamp(seconds, zone(self.zone_name))
        return f"{at.day} {MONTHS[self.tag][at.month - 1]}"

    def between(self, first: str, last: str) -> str:
        """The time from one moment to another."""
        return self.duration(max(0.0, (clock.parse(last) - clock.parse(first)).total_seconds()))

    def since(self, iso: str) -> str:
        """How long ago, as a duration."""
        return self.duration(max(0.0, (clock.now() - clock.parse(iso)).total_seconds()))


def _offset(at: datetime) -> str:
    text = at.strftime("%z")
    return f"{text[:3]}:{text[3:5]}"
