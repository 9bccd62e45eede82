// Shortcuts. Single keys can be turned off under Settings (WCAG 2.1.4) and never act while one types.
const places = { o: "overview", m: "models", i: "interactions", a: "alerts", d: "datasets", e: "experiments" };
const single = document.body.dataset.keys !== "off";
let pending = 0;

const visit = (key) => {
  const home = document.body.dataset.home;
  if (places[key]) location.href = key === "o" ? home : home.replace(/\/$/, "") + "/" + places[key];
};
const acts = {
  "/": () => (document.getElementById("q") || document.getElementById("jump"))?.focus(),
  "?": () => document.getElementById("help")?.showModal(),
  j: () => ciranda.move(1),
  k: () => ciranda.move(-1),
  "[": () => ciranda.turn(-1),
  "]": () => ciranda.turn(1),
  p: () => ciranda.pause?.(),
  t: () => ciranda.theme(),
};
// A page's own keys: `data-key` on a button presses it, on a field focuses it; Ctrl-Enter in a field sends its form by the button named there.
const press = (key) => {
  const target = key && document.querySelector(`[data-key~="${CSS.escape(key)}"]`);
  if (!target) return false;
  if (target.matches("textarea, input")) {
    target.focus();
    target.select();
  } else target.click();
  return true;
};
const send = (field) => {
  const button = field.form?.querySelector(`button[value="${CSS.escape(field.dataset.send)}"]`);
  if (button) field.form.requestSubmit(button);
};
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && event.target.dataset?.send) {
    event.preventDefault();
    send(event.target);
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && ciranda.palette) {
    event.preventDefault();
    ciranda.palette();
    return;
  }
  const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
  if (typing || !single || event.ctrlKey || event.metaKey || event.altKey) return;
  const modal = document.querySelector("dialog[open]");
  const key = event.key.length === 1 ? event.key.toLowerCase() : "";
  if (modal && key !== "[" && key !== "]") return;
  if (pending) {
    clearTimeout(pending);
    pending = 0;
    visit(key);
  } else if (key === "g") {
    pending = setTimeout(() => { pending = 0; }, 1200);
  } else if (acts[key]) {
    event.preventDefault();
    acts[key]();
  } else if (!modal && press(key)) event.preventDefault();
});
