// <live-chart metric model>: one metric of one window, drawn by uPlot, kept up by the stream. The metric rules are those of views/live.py.
const { number, compact, percent, ms, clock, day } = ciranda.formats;
const SHOWN_S = 900, AGAIN_MS = 15000;
const rate = (value) => number(value, value == null || value >= 1000 ? 0 : value && value < 1 ? 2 : 1);
const rules = {
  requests: { of: (row, step) => row[1] / step, say: rate, axis: (value) => (Number.isInteger(value) ? compact(value) : rate(value)), floor: 0.1 },
  errors: { of: (row) => (row[1] ? row[2] / row[1] : null), say: (value) => percent(value), axis: (v) => percent(v), floor: 0.05, top: 1 },
  tokens: { of: (row, step) => row[8] / step, say: rate, axis: (value) => (Number.isInteger(value) ? compact(value) : rate(value)), floor: 1 },
  latency: { of: (row) => row[3], say: ms, axis: (value) => (value < 1000 ? ms(value) : `${number(value / 1000, value % 1000 ? 1 : 0)} s`), floor: 100 },
  quality: { of: (row) => (row[4] + row[5] ? row[4] / (row[4] + row[5]) : null), say: (value) => percent(value), axis: (v) => percent(v), floor: 1, top: 1 },
};

rules.p50 = { ...rules.latency, of: (row) => row[6] };
rules.p99 = { ...rules.latency, of: (row) => row[7] };
rules.thumbs = rules.quality;

// The data that all charts of a page share, by model.
const store = new Map();
const read = () => {
  const holder = document.getElementById("live-data");
  if (!holder) return null;
  const given = JSON.parse(holder.textContent);
  if (!store.has(given.model)) store.set(given.model, given);
  return store.get(given.model);
};
const sum = (rows) => {
  const all = [rows[0]?.[0] ?? 0, 0, 0, null, 0, 0, null, null, 0];
  for (const row of rows) for (const index of [1, 2, 4, 5, 8]) all[index] += row[index];
  for (const index of [3, 6, 7]) {
    const timed = rows.filter((row) => row[index] != null && row[1]);
    const weight = timed.reduce((sum, row) => sum + row[1], 0);
    all[index] = weight ? timed.reduce((sum, row) => sum + row[index] * row[1], 0) / weight : null;
  }
  return all;
};
const recent = (data, metric, tracks) => {
  const steps = Math.max(1, Math.round(60 / data.step));
  const rows = tracks.flatMap((track) => track.rows.slice(-steps));
  return rules[metric].of(sum(rows), data.step * steps);
};
const merge = (data, news) => {
  for (const track of news.tracks) {
    let mine = data.tracks.find((one) => one.label === track.label);
    if (!mine) {
      mine = { label: track.label, colour: track.colour, rows: [] };
      data.tracks.push(mine);
    }
    for (const row of track.rows) {
      const at = mine.rows.findIndex((one) => one[0] === row[0]);
      if (at >= 0) mine.rows[at] = row;
      else mine.rows.push(row);
    }
    mine.rows = mine.rows.filter((row) => row[0] >= news.until - data.span);
  }
  data.until = news.until;
};
const short = (label) => (label.includes("@") ? label.slice(label.lastIndexOf("@")) : label);
const smooth = (values) => values.map((_, index) => {
  const near = values.slice(Math.max(0, index - 3), index + 4).filter((value) => value != null);
  return values[index] == null && near.length < 3 ? null : near.length ? near.reduce((a, b) => a + b, 0) / near.length : null;
});
// A token as a canvas takes it: the tokens are light-dark() pairs, which only a real property resolves.
const colour = (element, name) => {
  const probe = element.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

class LiveChart extends HTMLElement {
  connectedCallback() {
    if (this.plot || !window.uPlot) return;
    this.metric = this.getAttribute("metric");
    this.data = read();
    if (!this.data) return;
    this.draw();
    this.watch = new ResizeObserver(() => this.plot?.setSize({ width: this.clientWidth, height: this.clientHeight }));
    this.watch.observe(this);
    this.onTheme = () => this.draw();
    this.onTick = () => this.update();
    document.addEventListener("ciranda:theme", this.onTheme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.onTheme);
    document.addEventListener("ciranda:drawn", this.onTick);
  }

  disconnectedCallback() {
    this.plot?.destroy();
    this.plot = null;
    this.watch?.disconnect();
    document.removeEventListener("ciranda:theme", this.onTheme);
    document.removeEventListener("ciranda:drawn", this.onTick);
  }

  points() {
    const rule = rules[this.metric];
    const times = [...new Set(this.data.tracks.flatMap((track) => track.rows.map((row) => row[0])))].sort((a, b) => a - b);
    const raw = this.data.tracks.map((track) => {
      const by = new Map(track.rows.map((row) => [row[0], rule.of(row, this.data.step)]));
      return times.map((time) => by.get(time) ?? null);
    });
    return [times, ...raw, ...raw.map(smooth)];
  }

  draw() {
    this.plot?.destroy();
    this.shape = this.data.tracks.map((track) => track.label).join();
    const hue = (name) => colour(this, name);
    const ink = hue("--text-3"), grid = hue("--grid"), font = `11px ${getComputedStyle(this).fontFamily}`;
    const rule = rules[this.metric];
    const stroke = (track) => hue(`--series-${track.colour}`);
    const named = this.data.tracks.length > 1;
    this.replaceChildren();
    this.plot = new uPlot({
      width: this.clientWidth || 320, height: this.clientHeight || 132, padding: [6, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 5 }, drag: { x: false, y: false }, sync: { key: "live", setSeries: false } },
      scales: {
        x: { time: false, range: () => [this.data.until - this.data.span, this.data.until] },
        y: { range: (_, low, high) => [0, rule.top ? Math.min(rule.top, Math.max(rule.floor, (high || 0) * 1.15)) : Math.max(rule.floor, (high || 0) * 1.15)] },
      },
      axes: [
        { stroke: ink, font, grid: { show: false }, ticks: { show: false }, gap: 6, size: 22, space: 72, incrs: [60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 345600], values: (_, marks) => marks.map((mark) => (this.data.span > 86400 ? day(mark) : clock(mark))) },
        { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, gap: 6, size: 44, space: 36, values: (_, marks) => marks.map((mark) => rule.axis(mark)) },
      ],
      series: [
        {},
        ...this.data.tracks.map((track) => ({ stroke: stroke(track), width: 1, alpha: 0.28, points: { show: false } })),
        ...this.data.tracks.map((track) => ({ stroke: stroke(track), width: 1.75, points: { show: false } })),
      ],
      hooks: { setCursor: [(plot) => this.point(plot)] },
    }, this.points(), this);
    this.say();
  }

  point(plot) {
    const { idx, left } = plot.cursor;
    this.tip?.remove();
    this.tip = null;
    if (idx == null || left < 0 || !this.matches(":hover")) return;
    const tip = document.createElement("div");
    tip.className = "tip";
    const at = plot.data[0][idx];
    tip.append(this.data.span > SHOWN_S ? `${day(at)} ${clock(at)}` : clock(at, true));
    this.data.tracks.forEach((track, index) => {
      const line = document.createElement("div");
      line.className = `c${track.colour}`;
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      line.append(swatch, `${short(track.label)} ${rules[this.metric].say(plot.data[1 + index][idx])}`.trim());
      tip.append(line);
    });
    const right = left > this.clientWidth / 2;
    this.append(tip);
    const over = plot.over.offsetLeft + left;
    tip.style.top = "4px";
    tip.style[right ? "right" : "left"] = `${right ? this.clientWidth - over + 10 : over + 10}px`;
    this.tip = tip;
  }

  update() {
    if (!this.plot || document.hidden) return;
    if (this.shape !== this.data.tracks.map((track) => track.label).join()) this.draw();
    else this.plot.setData(this.points());
    this.say();
  }

  say() {
    const rule = rules[this.metric];
    const value = rule.say(recent(this.data, this.metric, this.data.tracks));
    const card = this.closest(".card");
    const big = card?.querySelector("[data-value]");
    if (big && big.textContent !== value) big.textContent = value;
    const parts = this.data.tracks.map((track) => {
      const one = rule.say(recent(this.data, this.metric, [track]));
      const spot = card?.querySelector(`[data-now][data-track="${CSS.escape(track.label)}"]`);
      if (spot && spot.textContent !== one) spot.textContent = one;
      return `${track.label} ${one}`.trim();
    });
    this.setAttribute("role", "img");
    this.setAttribute("aria-label", `${this.dataset.name}: ${this.data.tracks.length > 1 ? parts.join(", ") : value}`);
    const empty = !this.points().slice(1).some((line) => line.some((one) => one != null && (this.metric !== "requests" || one)));
    this.note ??= Object.assign(document.createElement("p"), { className: "chart-none" });
    if (empty) { this.note.textContent = this.dataset.none; this.append(this.note); } else this.note.remove();
  }
}

const drawn = () => document.dispatchEvent(new CustomEvent("ciranda:drawn"));
const again = async (model, data) => {
  data.asked = Date.now();
  const address = new URL("window", new URL(document.body.dataset.home, location.href));
  if (model) address.searchParams.set("model", model);
  const span = new URLSearchParams(location.search).get("span");
  if (span) address.searchParams.set("span", span);
  const answer = await fetch(address);
  if (answer.ok) { merge(data, await answer.json()); drawn(); }
};
document.addEventListener("ciranda:tick", (event) => {
  let hit = false;
  for (const news of event.detail.windows) {
    const data = store.get(news.model);
    if (data && data.step === news.step) { merge(data, news); hit = true; }
  }
  if (hit) drawn();
  for (const [model, data] of store) { // steps longer than the stream's are asked for now and then, while it lives
    if (data.span > SHOWN_S && Date.now() - (data.asked ?? (data.asked = Date.now())) > AGAIN_MS) again(model, data);
  }
});
document.addEventListener("ciranda:gap", () => store.forEach((data, model) => again(model, data)));
customElements.define("live-chart", LiveChart);
