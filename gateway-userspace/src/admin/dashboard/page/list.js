// A list that the agent pages through: a filter, choices, the page's rows, and the way to the others.

import { announce, el, put, settled } from "./dom.js";
import { ask } from "./agent.js";
import { count, many } from "./format.js";

const ROWS = 50;

/** See the module. `render(place, answer)` shows a page; `choices` are selects `{ name, label, options }`. */
export class List {
  #path;
  #noun;
  #render;
  #parameters;
  #offset = 0;
  #total = 0;
  #asked = 0;

  constructor(panel, { path, noun, nouns, hint, choices = [], more = [], limit = ROWS, render }) {
    this.#path = path;
    this.#noun = [noun, nouns ?? `${noun}s`];
    this.#render = render;
    this.#parameters = { limit };
    const change = () => {
      this.#offset = 0;
      this.refresh(true);
    };
    const filter = el("input", {
      type: "search", class: "filter", placeholder: hint, "aria-label": `Filter ${this.#noun[1]}`, autocomplete: "off", spellcheck: "false", maxlength: "256",
      on: { input: settled(() => { this.#parameters.filter = filter.value; change(); }) },
    });
    this.filter = filter;
    const pickers = choices.map((choice) => this.#picker(choice, change));
    const turn = (by, label, words) => el("button", {
      type: "button", class: "quiet", "aria-label": words,
      on: { click: () => { this.#offset = Math.max(0, this.#offset + by * this.#parameters.limit); this.refresh(true); } },
    }, label);
    this.before = turn(-1, "‹", `Page before of ${this.#noun[1]}`);
    this.after = turn(1, "›", `Next page of ${this.#noun[1]}`);
    this.where = el("p", { class: "where" });
    this.fault = el("p", { class: "fault", hidden: true });
    this.place = el("div", { class: "rows" });
    panel.append(
      el("div", { class: "tools" }, filter, pickers, more, el("div", { class: "pager" }, this.where, this.before, this.after)),
      this.fault, this.place,
    );
  }

  #picker({ name, label, options }, change) {
    const select = el("select", { "aria-label": label, on: { change: () => this.set(name, select.value, change) } });
    const put = (all) => {
      const chosen = select.value;
      select.replaceChildren(...all.map(([value, words]) => el("option", { value }, words)));
      if (all.some(([value]) => value === chosen)) select.value = chosen;
    };
    put(options);
    this[`put_${name}`] = put;
    this[`select_${name}`] = select;
    return el("label", { class: "pick" }, select);
  }

  /** Another choice. */
  set(name, value, then = () => { this.#offset = 0; return this.refresh(true); }) {
    this.#parameters[name] = value;
    return then();
  }

  /** Asks for the page again; what is typed or chosen is told to those who do not see it. */
  async refresh(isAsked = false) {
    const number = ++this.#asked;
    try {
      const answer = await ask(this.#path, { ...this.#parameters, offset: this.#offset || undefined });
      // A later question has overtaken this one.
      if (number !== this.#asked) return;
      if (answer.rows.length === 0 && this.#offset > 0) {
        this.#offset = 0;
        await this.refresh(isAsked);
        return;
      }
      this.fault.hidden = true;
      this.#show(answer, isAsked);
      this.#render(this.place, answer);
    } catch (error) {
      if (number !== this.#asked) return;
      put(this.fault, error.message);
      this.fault.hidden = false;
    }
  }

  #show({ total, offset, rows }, isAsked) {
    this.#total = total;
    const words = total === 0 ? `no ${this.#noun[1]}` : `${count(offset + 1)}–${count(offset + rows.length)} of ${many(total, ...this.#noun)}`;
    put(this.where, words);
    this.before.disabled = offset === 0;
    this.after.disabled = offset + rows.length >= total;
    if (isAsked) announce(words);
  }
}

/** A table of a page: columns `{ title, class, hint }`, rows of cells; a cell is an element or text. */
export function table(caption, columns, rows) {
  const cells = (row) => row.cells.map((cell, at) => {
    const attributes = { class: columns[at].class, "data-title": columns[at].title };
    return at === 0 ? el("th", { scope: "row", ...attributes }, cell) : el("td", attributes, cell);
  });
  return el("table", {},
    el("caption", { class: "hidden" }, caption),
    el("thead", {}, el("tr", {}, columns.map(({ title, class: kind, hint }) => el("th", { scope: "col", class: kind, title: hint }, title)))),
    el("tbody", {}, rows.map((row) => el("tr", { class: row.class }, cells(row)))));
}

/** What stands where there is nothing to show. */
export function empty(words) {
  return el("p", { class: "empty" }, words);
}
