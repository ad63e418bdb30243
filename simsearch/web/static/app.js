"use strict";
// Every action here is also a link or a form that works without scripts, and every view has a URL.
document.documentElement.classList.add("scripting");
const one = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const root = document.documentElement.dataset.root;  // what the addresses of this collection begin with

// The list of collections closes when something else is chosen.
const shelf = one("details.switch");
if (shelf) {
  addEventListener("click", (event) => { if (!shelf.contains(event.target)) shelf.open = false; });
  shelf.addEventListener("keydown", (event) => { if (event.key === "Escape") { shelf.open = false; one("summary", shelf).focus(); } });
}

// The query picture: dropped, pasted or chosen.
const ask = one("form.ask");
function complain(text) {
  const line = one(".complaint", ask);
  line.textContent = text;
  line.hidden = false;
}
function send(files) {
  const pictures = files.filter((file) => file.type.startsWith("image/") || file.type === "");
  const most = Number(ask.dataset.mostBytes);
  if (!pictures.length) return complain("This is not a picture.");
  if (pictures.reduce((sum, file) => sum + file.size, 0) > most * 0.98) return complain(`The pictures are larger than ${Math.round(most / 1e6)} MB.`);
  const carrier = new DataTransfer();
  for (const picture of pictures) carrier.items.add(picture);
  one("input[type=file]", ask).files = carrier.files;
  submit();
}
async function submit() {
  ask.classList.add("busy");
  one(".complaint", ask).hidden = true;
  try {
    const answer = await fetch(ask.action, { method: "POST", body: new FormData(ask), headers: { Accept: "application/json" } });
    const document = await answer.json();
    if (answer.ok) return location.assign(document.url);
    complain(`${document.detail}; ${document.advice}`);  // the search stays as it is
  } catch {
    complain("The server cannot be reached.");
  }
  ask.classList.remove("busy");
  ask.reset();
}
if (ask) {
  const drop = one(".drop");
  const brings = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  one("input[type=file]", ask).addEventListener("change", (event) => send([...event.target.files]));
  let depth = 0;
  addEventListener("dragenter", (event) => { if (brings(event)) { depth++; drop.hidden = false; } });
  addEventListener("dragleave", (event) => { if (brings(event) && --depth <= 0) { depth = 0; drop.hidden = true; } });
  addEventListener("dragover", (event) => { if (brings(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    depth = 0;
    drop.hidden = true;
    send([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    const url = one("input[name=url]", ask), text = event.clipboardData.getData("text/plain").trim();
    if (event.clipboardData.files.length) return send([...event.clipboardData.files]);
    if (url && /^https?:\/\/\S+$/.test(text) && !event.target.closest("input")) { url.value = text; submit(); }
  });
  addEventListener("pageshow", () => { ask.classList.remove("busy"); });
}

// The crop of the query picture.
const frame = one(".example .frame[data-address]");
if (frame) {
  const cut = one(".cut", frame), dim = one(".dim", cut), edge = one(".edge", cut);
  const least = 0.03;
  let part = null, start = null;
  const clip = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));
  const shown = one(".edge", frame);
  if (!cut.hasAttribute("hidden")) part = ["x", "y", "width", "height"].map((name) => Number(shown.getAttribute(name)));
  function draw() {
    cut.toggleAttribute("hidden", part === null);
    if (part === null) return;
    const [x, y, w, h] = part;
    dim.setAttribute("d", `M0 0H1V1H0ZM${x} ${y}h${w}v${h}h${-w}Z`);
    ["x", "y", "width", "height"].forEach((name, i) => edge.setAttribute(name, part[i]));
  }
  function go() {
    const address = new URL(frame.dataset.address, location.href);
    if (part !== null) address.searchParams.set("crop", part.map((value) => +value.toFixed(4)).join(","));
    location.assign(address);
  }
  const place = (event) => {
    const box = frame.getBoundingClientRect();
    return [clip((event.clientX - box.left) / box.width), clip((event.clientY - box.top) / box.height)];
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    frame.focus({ preventScroll: true });
    frame.setPointerCapture(event.pointerId);
    start = place(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = place(event);
    part = [Math.min(x, start[0]), Math.min(y, start[1]), Math.abs(x - start[0]), Math.abs(y - start[1])];
    draw();
  });
  frame.addEventListener("pointerup", () => {
    if (!start) return;
    start = null;
    if (part && part[2] >= least && part[3] >= least) go();
    else { part = null; draw(); }
  });
  frame.addEventListener("pointercancel", () => { start = part = null; draw(); });
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "c" || (event.key === "Enter" && part === null)) part = [0.25, 0.25, 0.5, 0.5];
    else if (event.key === "Escape") part = null;
    else if (event.key === "Enter") return go();
    else if (step && part !== null) {
      let [x, y, w, h] = part;
      if (event.shiftKey) [w, h] = [clip(w + 0.04 * step[0], least, 1 - x), clip(h + 0.04 * step[1], least, 1 - y)];
      else [x, y] = [clip(x + 0.04 * step[0], 0, 1 - w), clip(y + 0.04 * step[1], 0, 1 - h)];
      part = [x, y, w, h];
    } else return;
    event.preventDefault();
    event.stopPropagation();
    draw();
  });
}

// The filter form: the slider hides tiles at once; every other change goes to the server.
const slider = one("#min"), which = slider && slider.form;
if (which) {
  const value = one("output", which);
  const hide = () => {
    const least = Number(slider.value);
    value.textContent = least > 0 ? least.toFixed(2) : "all";
    for (const tile of all(".tile[data-similarity]")) tile.classList.toggle("below", least > 0 && Number(tile.dataset.similarity) < least);
  };
  slider.addEventListener("input", hide);
  for (const input of all("select, input:not([type=hidden])", which)) input.addEventListener("change", () => which.requestSubmit());
  which.addEventListener("submit", () => { for (const input of all("input, select", which)) if (!input.value || (input === slider && Number(input.value) === 0)) input.disabled = true; });
  addEventListener("pageshow", (event) => { if (event.persisted) for (const input of all("input, select", which)) input.disabled = false; });
}

const options = one("details.options");
if (options && matchMedia("(max-width: 760px)").matches && !(one("#where") && one("#where").value) && !one(".results .complaint")) options.open = false;

// More results while scrolling.
const seen = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) more(); }, { rootMargin: "900px" });
let isFetching = false;
async function more() {
  const link = one(".pager .more");
  if (!link || isFetching) return;
  isFetching = true;
  try {
    const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const grids = all(".answer .grid");
    all(".answer", page).forEach((section, i) => { if (grids[i]) grids[i].append(...all(".tile", section)); });
    if (typeof selection !== "undefined" && selection) selection.show();
    const next = one(".pager .more", page);
    if (next) { link.href = next.href; seen.unobserve(link); seen.observe(link); } else link.remove();
  } catch { seen.disconnect(); }  // the link can still be clicked
  isFetching = false;
}
if (one(".pager .more")) seen.observe(one(".pager .more"));

// Keys.
const keys = one("dialog.keys");
function step(tile, key) {
  const tiles = all(".tile:not(.below)"), at = tiles.indexOf(tile);
  if (key === "ArrowRight") return tiles[at + 1];
  if (key === "ArrowLeft") return tiles[at - 1];
  const box = tile.getBoundingClientRect(), middle = (box.left + box.right) / 2;
  const rows = tiles.map((other) => [other, other.getBoundingClientRect()]).filter(([, other]) => key === "ArrowDown" ? other.top > box.top + 5 : other.top < box.top - 5);
  if (!rows.length) return undefined;
  const nearest = rows.reduce((best, [, other]) => key === "ArrowDown" ? Math.min(best, other.top) : Math.max(best, other.top), key === "ArrowDown" ? Infinity : -Infinity);
  const inRow = rows.filter(([, other]) => Math.abs(other.top - nearest) < 5);
  return inRow.sort(([, a], [, b]) => Math.abs((a.left + a.right) / 2 - middle) - Math.abs((b.left + b.right) / 2 - middle))[0][0];
}
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=file]), select, textarea, dialog")) return;
  const tile = event.target.closest(".tile") || document.activeElement.closest(".tile");
  if (event.key.startsWith("Arrow")) {
    const next = tile ? step(tile, event.key) : (event.target === document.body && one(".tile"));
    if (next) { event.preventDefault(); one(".open", next).focus(); next.scrollIntoView({ block: "nearest" }); }
    return;
  }
  const does = {
    "?": () => keys && keys.showModal(),
    "/": () => one("#where") && one("#where").focus(),
    t: () => one("#text") && one("#text").focus(),
    u: () => ask && one("input[type=file]", ask).click(),
    c: () => { if (frame) { frame.focus(); frame.dispatchEvent(new KeyboardEvent("keydown", { key: "c" })); } },
    i: () => tile && one(".details", tile).click(),
    "+": () => tile && one(".more-like", tile) && one(".more-like", tile).click(),
    "-": () => tile && one(".less-like", tile) && one(".less-like", tile).click(),
  }[event.key];
  if (does) { event.preventDefault(); does(); }
});
