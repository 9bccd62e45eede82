// Numbers and times as the page's language writes them; the twin of formats.py, held to the same vectors.
const tag = document.documentElement.lang || "en";
const zone = document.body.dataset.zone || "UTC";
const fixed = new Map();
const number = (value, digits = 0) => {
  if (value == null) return "–";
  if (!fixed.has(digits)) {
    fixed.set(digits, new Intl.NumberFormat(tag, { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: "always", roundingMode: "halfEven" }));
  }
  return fixed.get(digits).format(value);
};
const units = tag === "pt-BR" ? [" mil", " mi", " bi"] : ["k", "M", "B"];
const compact = (value) => {
  if (value == null) return "–";
  let size = value, unit = "";
  for (const next of units) {
    if (Math.abs(size) < 1000) break;
    size /= 1000;
    unit = next;
  }
  return number(size, !unit || Math.abs(size) >= 100 ? 0 : 1) + unit;
};
const percent = (share, digits = 1) => {
  if (share == null) return "–";
  const value = share * 100;
  if (!digits) return `${number(value)}%`;
  const exact = Math.abs(value - Math.round(value)) < 0.005 || (Math.abs(value) >= 1 && Math.abs(value - Math.round(value)) < 0.05);
  return `${number(value, exact ? 0 : Math.abs(value) < 1 ? Math.max(digits, 2) : digits)}%`;
};
const ms = (value) => (value == null ? "–" : value < 1000 ? `${number(value)} ms` : `${number(value / 1000, 2)} s`);
const clock = (seconds, withSeconds = false) =>
  new Intl.DateTimeFormat("en-GB", {
    timeZone: zone, hour: "2-digit", minute: "2-digit", second: withSeconds ? "2-digit" : undefined, hourCycle: "h23",
  }).format(new Date(seconds * 1000));
const day = (seconds) => new Intl.DateTimeFormat(tag === "en" ? "en-GB" : tag, { timeZone: zone, day: "numeric", month: "short" }).format(new Date(seconds * 1000)).replace(" de ", " ").replace(".", "");
ciranda.formats = { number, compact, percent, ms, clock, day };
