"use strict";
// Labels by digits: the picture in focus, or the selected ones, get a label, and the next picture gets the focus.
const palette = one(".palette");
if (palette) {
  const column = palette.dataset.column, given = new Map(), most = 9;
  const tiles = () => all(".grid .tile");
  const buttons = () => all("button", palette);

  function show() {
    for (const tile of tiles()) {
      const value = given.get(Number(tile.dataset.id));
      let mark = one(".given", tile);
      if (value && !mark) {
        mark = document.createElement("span");
        mark.className = "given user";
        one(".open", tile).append(mark);
      }
      if (mark && value) mark.textContent = value;
      else if (mark) mark.remove();
    }
    const n = tiles().filter((tile) => given.has(Number(tile.dataset.id))).length;
    one(".count", palette).textContent = n ? `${n} of ${tiles().length} labeled.` : "";
  }
  function offer(value) {
    if (buttons().length >= most || buttons().some((button) => button.dataset.value === value)) return;
    const line = document.createElement("li"), button = document.createElement("button"), key = document.createElement("kbd"), name = document.createElement("span");
    button.type = "button";
    button.className = "quiet";
    button.dataset.value = name.textContent = value;
    name.className = "user";
    key.textContent = String(buttons().length + 1);
    button.append(key, " ", name);
    line.append(button);
    one("ol", palette).append(line);
  }
  function goOn(from) {
    const rest = tiles(), at = rest.indexOf(from);
    const next = [...rest.slice(at + 1), ...rest.slice(0, at)].find((tile) => !given.has(Number(tile.dataset.id)));
    (next ? one(".open", next) : one(".pager .next")).focus();
  }
  async function give(value) {
    const chosen = selection.chosen(), tile = document.activeElement.closest(".tile") || (!chosen.length && tiles()[0]);
    const ids = chosen.length ? chosen : [Number(tile.dataset.id)];
    await selection.label(ids, column, value);
    if (chosen.length) selection.change(chosen, false);
    if (tile) goOn(tile);
  }
  addEventListener("labelled", (event) => {
    for (const change of event.detail.filter((one) => one.column === column)) {
      for (const id of change.image_ids) { if (change.value) given.set(id, String(change.value)); else given.delete(id); }
      if (change.value) offer(String(change.value));
    }
    show();
  });
  palette.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) give(button.dataset.value);
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return;
    const button = /^[1-9]$/.test(event.key) && buttons()[Number(event.key) - 1];
    if (button) { event.preventDefault(); give(button.dataset.value); }
    if (event.key === "n") one(".pager .next").click();
  });
  if (tiles().length) one(".open", tiles()[0]).focus({ preventScroll: true });
}
