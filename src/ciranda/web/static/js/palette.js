// Ctrl-K: every page and action by name. The list comes from the server once, when it is first wanted.
const palette = document.getElementById("palette");
const jump = document.getElementById("jump");
if (palette && jump) {
  const input = palette.querySelector("input");
  const list = palette.querySelector("ul");
  let items = null;
  let shown = [];
  let at = 0;

  const score = (text, words) => words.every((word) => text.includes(word)) ? (text.startsWith(words[0] || "") ? 0 : 1) : -1;
  const choose = (index) => {
    at = Math.max(0, Math.min(shown.length - 1, index));
    [...list.children].forEach((one, place) => one.setAttribute("aria-selected", place === at));
    list.children[at]?.scrollIntoView({ block: "nearest" });
    if (list.children[at]) input.setAttribute("aria-activedescendant", list.children[at].id);
    else input.removeAttribute("aria-activedescendant");
  };
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = items.map((item) => ({ item, rank: score(item.text.toLowerCase(), words) })).filter((one) => one.rank >= 0)
      .sort((a, b) => a.rank - b.rank).slice(0, 50).map((one) => one.item);
    list.replaceChildren(...shown.map((item, index) => {
      const line = Object.assign(document.createElement("li"), { id: `palette-${index}` });
      line.setAttribute("role", "option");
      line.append(item.text, Object.assign(document.createElement("span"), { className: "hint", textContent: item.hint }));
      line.addEventListener("click", () => go(index));
      return line;
    }));
    choose(0);
  };
  const go = (index) => {
    const item = shown[index];
    if (!item) return;
    palette.close();
    if (item.ask) ciranda.ask(item.ask);
    else location.href = item.href;
  };
  ciranda.palette = async () => {
    if (palette.open || document.querySelector("dialog[open]")) return;
    items ??= await (await fetch(document.body.dataset.palette)).json();
    input.value = "";
    palette.showModal();
    filter();
    input.focus();
  };
  input.addEventListener("input", filter);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") choose(at + 1);
    else if (event.key === "ArrowUp") choose(at - 1);
    else if (event.key === "Enter") go(at);
    else return;
    event.preventDefault();
  });
  jump.hidden = false;
  jump.addEventListener("click", ciranda.palette);
}
