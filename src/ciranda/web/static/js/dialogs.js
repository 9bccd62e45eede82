// Dialogs and drawers: htmx puts a fragment in, the native dialog shows it, focus goes back to what opened it.
// An open drawer is in the address, so that it can be shared and Back closes it.
const ask = document.getElementById("ask");
const drawer = document.getElementById("drawer");
let opener = null;
let leaving = false; // the address is going back from a drawer: the page behind it is still there, nothing to load

// Marked as htmx's own, or htmx would write its mark over ours at its next swap.
const entry = (href) => ({ htmx: true, drawer: href });
let shown = location.pathname + location.search; // the address of what lies behind the drawer

const leave = () => {
  leaving = true;
  setTimeout(() => { leaving = false; }, 300);
};

const open = (dialog) => {
  if (!dialog.open) {
    opener ??= document.activeElement;
    dialog.showModal();
  }
  (dialog.querySelector("[autofocus]") || dialog.querySelector("button, a"))?.focus();
};
ciranda.ask = (href) => {
  opener = document.activeElement;
  return htmx.ajax("GET", href, { target: "#ask", swap: "innerHTML" });
};
ciranda.drawer = (link, push = true) => {
  opener = drawer.open ? opener : link;
  const href = link.getAttribute("href");
  htmx.ajax("GET", href, { target: "#drawer", swap: "innerHTML" });
  if (push && history.state?.drawer) history.replaceState(entry(href), "", href);
  else if (push) history.pushState(entry(href), "", href);
};

document.addEventListener("htmx:before:request", (event) => {
  const link = event.detail.ctx.sourceElement?.closest?.("[data-dialog]");
  if (!link) return;
  opener = link;
  if (link.dataset.dialog === "drawer") history.pushState(entry(link.getAttribute("href")), "", link.getAttribute("href"));
});
document.addEventListener("htmx:after:swap", (event) => {
  const target = event.detail.ctx?.target;
  if (target === ask || target === drawer) open(target);
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("close", () => {
    if (dialog === drawer && history.state?.drawer) {
      leave();
      history.back();
    }
    if (dialog === ask || dialog === drawer) dialog.replaceChildren();
    const back = opener;
    opener = null;
    if (back?.isConnected) back.focus();
  });
  dialog.addEventListener("click", (event) => {
    const box = dialog.getBoundingClientRect();
    const outside = event.target === dialog && (event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom);
    if (outside || event.target.closest?.("[data-close]")) {
      event.preventDefault();
      dialog.close();
    }
  });
}
document.addEventListener("htmx:before:history:restore", (event) => {
  if (drawer?.open || leaving || history.state?.drawer) event.preventDefault();
});
document.addEventListener("htmx:after:history:push", () => { shown = location.pathname + location.search; });
addEventListener("popstate", (event) => {
  if (!drawer) return;
  if (event.state?.drawer) {
    htmx.ajax("GET", event.state.drawer, { target: "#drawer", swap: "innerHTML" });
  } else if (drawer.open) {
    leave();
    drawer.close();
  } else if (!leaving && location.pathname + location.search !== shown) {
    location.reload(); // the page was loaded at a drawer's address, and the list was never here
  }
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
});
