// What is known of one thing, beside the view. Closed by its button or by Escape, which gives the focus back.

import { el, replace } from "./dom.js";

/** The place of details. */
export class Details {
  #from;
  #content;
  #title;

  constructor(onClose) {
    this.#title = el("h2", { tabindex: "-1" });
    this.#content = el("div", { class: "content" });
    const close = () => {
      this.close();
      onClose();
    };
    this.place = el("aside", { class: "details", "aria-label": "Details", hidden: true, on: { keydown: (event) => event.key === "Escape" && close() } },
      el("header", {}, this.#title, el("button", { type: "button", class: "quiet", "aria-label": "Close details", on: { click: close } }, "✕")),
      this.#content);
  }

  get isOpen() {
    return !this.place.hidden;
  }

  /** Opens it, or shows something else. */
  open(title, content) {
    if (!this.isOpen) this.#from = document.activeElement;
    this.place.hidden = false;
    replace(this.#title, title);
    this.show(content);
    this.#title.focus();
  }

  /** Shows what has changed meanwhile. */
  show(content) {
    replace(this.#content, content);
  }

  close() {
    this.place.hidden = true;
    const key = this.#from?.dataset?.key;
    // The one that it came from may have been drawn anew.
    const again = this.#from?.isConnected ? this.#from : [...document.querySelectorAll("[data-key]")].find((it) => it.dataset.key === key);
    again?.focus();
  }
}

/** Names with values. */
export function pairs(list) {
  return el("dl", { class: "pairs" }, list.filter(([, value]) => value !== undefined).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}
