// J, K and Enter in a list; [ and ] go through it while its drawer is open. The row at hand is the one whose link has focus.
const links = () => [...document.querySelectorAll("table[data-list] a[data-dialog=drawer]")];
const drawer = document.getElementById("drawer");
ciranda.move = (by) => {
  const all = links();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement);
  all[Math.min(all.length - 1, Math.max(0, at + by))].focus();
};
ciranda.turn = (by) => {
  const all = links();
  const here = location.pathname;
  const at = all.findIndex((link) => link.pathname === here);
  const next = all[at + by];
  if (drawer?.open && at >= 0 && next) ciranda.drawer(next);
};

// An address says what was chosen, and nothing of what was not.
document.addEventListener("htmx:config:request", (event) => {
  const { method, body } = event.detail.ctx.request;
  if (method?.toUpperCase() !== "GET" || !(body instanceof FormData)) return;
  for (const [name, value] of [...body]) if (value === "") body.delete(name);
});
