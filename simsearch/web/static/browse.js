"use strict";
// All images of a list in one grid: only the rows near the window are in the page, in a list as high as all rows.
const wall = one(".wall");
if (wall) {
  const total = Number(wall.dataset.total), size = 200, gap = 12, mostHeight = 30_000_000;
  const known = new Map(), pages = new Map(), cells = new Map();  // images by position; requests by page; cells by position
  let columns = 1, side = 190, rowHeight = 216, timer = 0;
  const remembered = `simsearch-scroll ${root}${location.search}`;
  for (const cell of all(".cell", wall)) {
    known.set(Number(cell.dataset.index), { image_id: Number(cell.dataset.id), name: one("img", cell).alt, width: Number(cell.dataset.width), height: Number(cell.dataset.height) });
    cell.remove();
  }
  wall.classList.add("virtual");

  function measure() {
    const width = wall.clientWidth, wanted = innerWidth <= 760 ? 104 : 176;
    columns = Math.max(2, Math.floor((width + gap) / (wanted + gap)));
    side = (width - gap * (columns - 1)) / columns;
    rowHeight = side + 34;
    wall.style.height = `${Math.min(mostHeight, Math.ceil(total / columns) * rowHeight)}px`;
    for (const [index, cell] of cells) place(cell, index);
  }
  function place(cell, index) {
    cell.style.width = `${side}px`;
    cell.style.transform = `translate(${(index % columns) * (side + gap)}px, ${Math.floor(index / columns) * rowHeight}px)`;
    one(".open", cell).style.height = `${side}px`;
  }
  function build(index) {
    const cell = document.createElement("li"), link = document.createElement("a"), name = document.createElement("span");
    cell.className = "cell";
    cell.dataset.index = String(index);
    link.className = "open";
    name.className = "user";
    cell.append(link, name);
    fill(cell, index);
    place(cell, index);
    return cell;
  }
  function fill(cell, index) {
    const image = known.get(index), link = one(".open", cell);
    if (!image || cell.dataset.id) return;
    cell.dataset.id = String(image.image_id);
    link.href = `${root}/images/${image.image_id}`;
    const picture = document.createElement("img");
    picture.alt = image.name;
    picture.decoding = "async";
    const isLong = Math.max(image.width, image.height) > 3 * Math.min(image.width, image.height);
    cell.classList.toggle("long", isLong);  // the middle of a panorama instead of a thin strip
    picture.src = `${root}/api/v1/images/${image.image_id}/thumbnail?side=${isLong ? 1600 : 320}`;
    link.append(picture);
    one(".user", cell).textContent = image.name;
    selection.dress(cell);
  }
  async function load(page) {
    if (pages.has(page)) return pages.get(page);
    const request = (async () => {
      const answer = await fetch(`${root}/api/v1/images?${wall.dataset.query}&brief=true&limit=${size}&start=${page * size}`);
      if (!answer.ok) throw new Error(String(answer.status));
      const { images } = await answer.json();
      images.forEach((image, i) => known.set(page * size + i, image));
    })();
    pages.set(page, request);
    request.catch(() => pages.delete(page));
    return request;
  }
  function range() {
    const top = -wall.getBoundingClientRect().top, margin = innerHeight;
    const first = Math.max(0, Math.floor((top - margin) / rowHeight) * columns);
    return [first, Math.min(total, Math.ceil((top + innerHeight + margin) / rowHeight) * columns)];
  }
  function draw() {
    const [first, end] = range(), missing = new Set();
    for (const [index, cell] of cells) {
      if ((index < first || index >= end) && !cell.contains(document.activeElement)) { cell.remove(); cells.delete(index); }
    }
    for (let index = first; index < end; index++) {
      let cell = cells.get(index);
      if (!cell) {
        cell = build(index);
        cells.set(index, cell);
        const after = cells.get(index + 1);  // the order of the page is that of the list, for keys and readers
        if (after) after.before(cell);
        else wall.append(cell);
      } else fill(cell, index);
      if (!known.has(index)) missing.add(Math.floor(index / size));
    }
    clearTimeout(timer);
    if (missing.size) timer = setTimeout(() => Promise.allSettled([...missing].map(load)).then((all) => { if (all.some((one) => one.status === "fulfilled")) draw(); }), 60);
    sessionStorage.setItem(remembered, String(scrollY));
  }
  function ids() {
    return [...known.keys()].sort((a, b) => a - b).map((index) => known.get(index).image_id);
  }
  async function everything() {
    const all = [...Array(Math.ceil(total / size)).keys()];
    for (let i = 0; i < all.length; i += 4) await Promise.all(all.slice(i, i + 4).map(load));
    selection.change(ids(), true);
  }
  selection.use(ids, everything);
  addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", () => { measure(); draw(); });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return;
    const cell = event.target.closest(".cell");
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -total, End: total };
    if (event.key === "i" && cell) return one(".open", cell).click();
    if (event.key === "Enter" && cell && event.target.closest(".pick")) return one(".open", cell).click();
    if (!(event.key in steps) || (!cell && !["ArrowRight", "ArrowDown"].includes(event.key))) return;
    event.preventDefault();
    event.stopPropagation();
    const index = cell ? Math.max(0, Math.min(total - 1, Number(cell.dataset.index) + steps[event.key])) : range()[0];
    const top = wall.getBoundingClientRect().top + Math.floor(index / columns) * rowHeight;
    if (top < 8 || top + rowHeight > innerHeight - 90) scrollBy(0, top - (top < 8 ? 60 : innerHeight - rowHeight - 120));
    draw();
    const next = cells.get(index);
    if (!next) return;
    one(".open", next).href ||= "#";  // only a link with an address can have the focus
    one(".open", next).focus({ preventScroll: true });
    if (event.shiftKey && next.dataset.id) selection.choose(Number(next.dataset.id), true);
  }, true);
  measure();
  if (Number(wall.dataset.start)) scrollTo(0, wall.getBoundingClientRect().top + scrollY + Math.floor(Number(wall.dataset.start) / columns) * rowHeight);
  else if (performance.getEntriesByType("navigation")[0]?.type === "back_forward") scrollTo(0, Number(sessionStorage.getItem(remembered)));
  draw();
  for (const chooser of all(".sorting select")) chooser.addEventListener("change", () => chooser.form.requestSubmit());
}
