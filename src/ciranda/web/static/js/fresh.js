// Parts of a page that follow the stream: `<div id data-fresh="10">` is asked for anew every so many seconds while live data come
// in; with `data-when="asked"` only when somebody asked or voted since. Paused, hidden or cut off, nothing is asked for.
const due = new Map();
const busy = () => document.querySelector("dialog[open]");
const seen = (windows, model) => {
  const rows = windows.filter((one) => one.model === model).flatMap((one) => one.tracks.flatMap((track) => track.rows));
  return JSON.stringify(rows.filter((row) => row[1] || row[4] || row[5]));
};

document.addEventListener("ciranda:tick", (event) => {
  for (const part of document.querySelectorAll("[data-fresh]")) {
    const held = due.get(part) ?? { at: Date.now(), news: "" };
    due.set(part, held);
    const news = seen(event.detail.windows, part.dataset.model ?? "");
    const asked = part.dataset.when !== "asked" || news !== held.news;
    if (!asked || busy() || part.contains(document.activeElement?.closest("details, select")) || Date.now() - held.at < Number(part.dataset.fresh) * 1000 - 200) continue;
    due.set(part, { at: Date.now(), news });
    htmx.ajax("GET", location.pathname + location.search, { source: part, target: `#${part.id}`, swap: "innerMorph", headers: { "HX-Target": `div#${part.id}` } });
  }
});
