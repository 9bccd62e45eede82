// Live events in this tab, from the browser's one stream: a SharedWorker holds it; where there is none, one tab leads
// (Web Locks) and tells the others (BroadcastChannel). A hidden tab does not listen.
const pulse = document.getElementById("pulse");
const main = document.getElementById("main");
const { clock } = ciranda.formats;
let heard = 0;
let paused = false;
let behind = false;

const show = (state, text) => {
  if (!pulse) return;
  pulse.hidden = false;
  if (pulse.dataset.state === state && state !== "stale") return;
  pulse.dataset.state = state;
  pulse.firstElementChild.textContent = text;
};

const refresh = () => {
  behind = false;
  const busy = document.querySelector("dialog[open]") || main.querySelector(":is(input, select, textarea):focus, details[open]");
  if (busy || document.hidden) { behind = true; return; }
  htmx.ajax("GET", location.pathname + location.search, { target: "#main", swap: "innerMorph", headers: { "X-Refresh": "1" } });
};
let waiting = 0;
const changed = (topics) => {
  const wanted = (main?.dataset.topics || "").split(" ");
  if (waiting || !topics.some((topic) => wanted.includes(topic))) return;
  waiting = setTimeout(() => { waiting = 0; refresh(); }, 1500);
};

const take = (message) => {
  if (message.name === "lost") return;
  const gap = heard && Date.now() - heard > 15000;
  heard = Date.now();
  if (paused) return;
  show("live", pulse?.dataset.live);
  if (message.name === "tick") document.dispatchEvent(new CustomEvent("ciranda:tick", { detail: message.data }));
  if (message.name === "changed") changed(message.data);
  if (gap) { document.dispatchEvent(new CustomEvent("ciranda:gap")); if (main.dataset.topics) refresh(); }
};

setInterval(() => {
  if (heard && !paused && !document.hidden && Date.now() - heard > 5000) {
    show("stale", `${pulse.dataset.stale} ${clock(heard / 1000, true)}`);
  }
  if (behind) refresh();
}, 1000);

ciranda.pause = () => {
  paused = !paused;
  show(paused ? "paused" : "live", paused ? pulse.dataset.paused : pulse.dataset.live);
};

const shared = (address) => {
  const worker = new SharedWorker(ciranda.script(document.body.dataset.worker), { name: "ciranda" });
  worker.port.onmessage = (event) => take(event.data);
  worker.port.start();
  return {
    on: () => worker.port.postMessage({ name: "listen", address }),
    off: () => worker.port.postMessage({ name: "leave" }),
  };
};
const led = (address) => {
  const channel = new BroadcastChannel("ciranda");
  channel.onmessage = (event) => take(event.data);
  let release = null;
  const lead = () => new Promise((resolve) => {
    const source = new EventSource(address);
    for (const name of ["hello", "tick", "changed"]) {
      source.addEventListener(name, (event) => {
        const message = { name, data: JSON.parse(event.data) };
        take(message);
        channel.postMessage(message);
      });
    }
    release = () => { source.close(); release = null; resolve(); };
  });
  return {
    on: () => { if (!release) navigator.locks.request("ciranda-stream", lead); },
    off: () => release?.(),
  };
};

const address = document.body.dataset.stream;
if (address && main) {
  const line = (window.SharedWorker ? shared : led)(new URL(address, location.href).href);
  const follow = () => (document.hidden ? line.off() : line.on());
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", () => line.off());
  addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
  follow();
}
