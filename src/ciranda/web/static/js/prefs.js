// What only the browser knows or keeps: its time zone, the theme, copying to the clipboard.
const keep = (name, value) => {
  const path = new URL(document.body.dataset.home || "/", location.href).pathname;
  const secure = location.protocol === "https:" ? ";secure" : "";
  document.cookie = `${name}=${value};path=${path};max-age=31536000;samesite=strict${secure}`;
};
const mine = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (mine && mine !== document.body.dataset.zone) keep("ciranda_zone", mine);

ciranda.theme = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  keep("ciranda_theme", root.dataset.theme);
  document.dispatchEvent(new CustomEvent("ciranda:theme"));
};
const button = document.getElementById("theme");
if (button) {
  button.hidden = false;
  button.addEventListener("click", ciranda.theme);
}

class CopyBox extends HTMLElement {
  connectedCallback() {
    const press = this.querySelector("button");
    if (!press || !navigator.clipboard) return;
    press.hidden = false;
    const before = press.textContent;
    press.addEventListener("click", async () => {
      await navigator.clipboard.writeText(this.querySelector("pre").textContent);
      press.textContent = "✓";
      setTimeout(() => { press.textContent = before; }, 1200);
    });
  }
}
customElements.define("copy-box", CopyBox);
