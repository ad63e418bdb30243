"use strict";
// Selected images, by id: chosen by click, shift and keys; saved, labelled or marked to be removed. Nothing is deleted.
const selection = (() => {
  const load = (name) => { try { return new Set(JSON.parse(sessionStorage.getItem(name) || "[]")); } catch { return new Set(); } };
  const names = { chosen: `simsearch-selected${root}`, marked: `simsearch-to-remove${root}` };  // ids are those of one collection
  const chosen = load(names.chosen), marked = load(names.marked);
  const bar = one(".selection"), pile = one(".marked"), undoLine = one(".said-undo");
  const steps = [];
  let labelledFrom = null;  // the link to come back to from the form
  let anchor = null;  // where a range begins: the id of the image that was chosen last
  let list = () => all("[data-id]").map((item) => Number(item.dataset.id));  // ids in the order of the page

  function dress(item) {
    const id = Number(item.dataset.id);
    let box = one(".pick", item);
    if (!box) {
      box = document.createElement("input");
      box.type = "checkbox";
      box.className = "pick";
      const picture = one("img", item);
      box.setAttribute("aria-label", `Select ${picture ? picture.alt : id}`);
      item.append(box);
    }
    box.checked = chosen.has(id);
    item.classList.toggle("chosen", chosen.has(id));
    item.classList.toggle("to-remove", marked.has(id));
  }
  function show() {
    for (const item of all("[data-id]")) dress(item);
    bar.hidden = !chosen.size;
    pile.hidden = !marked.size;
    one(".count", bar).textContent = `${chosen.size.toLocaleString("en")} selected`;
    one(".count", pile).textContent = `${marked.size.toLocaleString("en")} image${marked.size === 1 ? "" : "s"}`;
    one("[name=ids]", bar).value = [...chosen].join(",");
    one("[name=ids]", pile).value = [...marked].join(",");
    sessionStorage.setItem(names.chosen, JSON.stringify([...chosen]));
    sessionStorage.setItem(names.marked, JSON.stringify([...marked]));
    dispatchEvent(new CustomEvent("selected"));
  }
  function remember(said, back) {
    steps.push(back);
    if (said) {
      one("span", undoLine).textContent = said;
      undoLine.hidden = false;
    }
  }
  const restore = (set, before) => { set.clear(); for (const id of before) set.add(id); };
  function change(ids, isOn) {
    const before = [...chosen];
    remember("", () => restore(chosen, before));
    for (const id of ids) { if (isOn) chosen.add(id); else chosen.delete(id); }
    show();
  }
  function choose(id, isRange) {
    const ids = list(), from = ids.indexOf(anchor), to = ids.indexOf(id);
    if (isRange && from >= 0 && to >= 0) change(ids.slice(Math.min(from, to), Math.max(from, to) + 1), true);
    else change([id], !chosen.has(id));
    anchor = id;
  }
  function clear() {
    change([...chosen], false);
    anchor = null;
  }
  function mark(ids) {
    const before = [...marked], isOn = ids.some((id) => !marked.has(id));
    for (const id of ids) { if (isOn) marked.add(id); else marked.delete(id); }
    remember(`${ids.length.toLocaleString("en")} ${isOn ? "marked to remove." : "unmarked."}`, () => restore(marked, before));
    show();
  }
  async function send(changes) {
    const answer = await fetch(`${root}/api/v1/annotations`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ changes }) });
    const document = await answer.json();
    if (!answer.ok) throw new Error(`${document.detail}; ${document.advice}`);
    return document;
  }
  const tell = (changes) => dispatchEvent(new CustomEvent("labelled", { detail: changes }));
  async function label(ids, column, value) {
    try {
      const done = await send([{ image_ids: ids, column, value: value === "" ? null : value }]);
      const values = one("#label-values");
      if (value && ![...values.options].some((option) => option.value === value)) values.append(new Option(value, value));
      const number = ids.length.toLocaleString("en");
      tell([{ image_ids: ids, column, value }]);
      remember(value ? `${number} labeled ${value}.` : `${column} of ${number} deleted.`, () => send(done.undo).then(() => tell(done.undo)));
    } catch (error) {
      remember(error.message, () => {});
    }
    show();
  }
  async function undo() {
    const back = steps.pop();
    if (!back) return;
    undoLine.hidden = true;
    try {
      await back();
    } catch (error) {
      remember(error.message, () => {});
    }
    show();
  }
  if (!bar) return null;
  addEventListener("click", (event) => {
    const item = event.target.closest("[data-id]");
    if (!item) return;
    const isBox = event.target.closest(".pick");
    if (!isBox && !event.shiftKey && !event.ctrlKey && !event.metaKey) return;
    if (!isBox) event.preventDefault();  // a link is not followed
    choose(Number(item.dataset.id), event.shiftKey);
  });
  for (const button of all(".choose-all")) button.addEventListener("click", async () => {
    const answer = await fetch(button.dataset.address);
    if (answer.ok) change((await answer.json()).image_ids, true);
  });
  one(".clear", bar).addEventListener("click", clear);
  one(".to-remove", bar).addEventListener("click", () => mark([...chosen]));
  one(".clear", pile).addEventListener("click", () => mark([...marked]));
  one("button", undoLine).addEventListener("click", undo);
  const form = one(".label-form", bar);
  const leave = () => { if (labelledFrom && labelledFrom.isConnected) labelledFrom.focus(); };
  if (form) form.addEventListener("keydown", (event) => { if (event.key === "Escape") leave(); });
  if (form) form.addEventListener("submit", (event) => {
    event.preventDefault();
    leave();
    label([...chosen], one("#label-column", form).value.trim(), one("#label-value", form).value.trim());
  });
  addEventListener("keydown", (event) => {
    if (event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return;
    const item = event.target.closest("[data-id]"), isCommand = event.ctrlKey || event.metaKey;
    const does = isCommand
      ? { a: () => selection.chooseAll(), z: undo }[event.key]
      : {
        " ": item && (() => choose(Number(item.dataset.id), event.shiftKey)),
        z: undo,
        x: () => mark(chosen.size ? [...chosen] : item ? [Number(item.dataset.id)] : []),
        l: form && (item || chosen.size) && (() => {
          if (!chosen.size) change([Number(item.dataset.id)], true);
          labelledFrom = item && one(".open", item);
          one("#label-value", form).select();
        }),
        Escape: chosen.size && clear,
      }[event.key];
    if (does) { event.preventDefault(); does(); }
  });
  show();
  function replace(ids) {
    const before = [...chosen];
    remember("", () => restore(chosen, before));
    restore(chosen, ids);
    show();
  }
  return { replace, dress, show, choose, change, label, chosen: () => [...chosen], chooseAll: () => change(list(), true), use: (ids, everything) => { list = ids; selection.chooseAll = everything; } };
})();
