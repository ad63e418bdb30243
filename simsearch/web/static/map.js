"use strict";
// Images that are selected on the map are those of the page, which has the actions for them.
const plane = one("iframe.map");
if (plane) {
  const tell = () => plane.contentWindow.postMessage({ selected: selection.chosen() }, location.origin);
  addEventListener("message", (event) => {
    if (event.source !== plane.contentWindow || event.origin !== location.origin) return;
    if (Array.isArray(event.data.selected)) selection.replace(event.data.selected);
    else if (["x", "z", "l"].includes(event.data.key)) {
      focus();
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key: event.data.key, bubbles: true, cancelable: true }));
    }
  });
  addEventListener("selected", tell);
  plane.addEventListener("load", tell);
}
