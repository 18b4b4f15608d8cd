// What is wrong with documents, as `sluice check` prints it.

import { el, lines, plain, replace } from "./dom.js";
import { List, empty } from "./list.js";
import * as format from "./format.js";

const SIGNS = { error: ["✕", "bad"], warning: ["▲", "warn"], info: ["●", "info"] };

// Line by line, so that what is underlined is seen as such; the text stays as it is.
function source(text) {
  const all = lines(text).trimEnd().split("\n");
  return el("pre", { tabindex: "0", "aria-label": "Source and remedy" }, all.slice(1).map((line) => {
    const [, gutter, marks] = /^( *\| +)(\^+)$/.exec(line) ?? [];
    if (marks) return [el("span", { class: "gutter" }, gutter), el("span", { class: "underline" }, `${marks}\n`)];
    const kind = /^ *\d+ \|/.test(line) ? "line" : /^ *= help:/.test(line) ? "help" : "rest";
    return el("span", { class: kind }, `${line}\n`);
  }));
}

function finding({ severity, code, message, text }) {
  const [sign, level] = SIGNS[severity];
  return el("li", {}, el("article", { class: "finding", "data-level": level },
    el("h3", {}, el("span", { "aria-hidden": "true" }, `${sign} `), el("span", { class: "severity" }, severity), " ", el("code", {}, code), " ", el("bdi", { class: "long" }, plain(message))),
    source(text)));
}

/** The view. */
export function view() {
  let list;
  return {
    id: "diagnostics",
    title: "Diagnostics",
    start(panel) {
      list = new List(panel, {
        path: "findings", noun: "finding", hint: "Message, code, document, file…", limit: 25,
        choices: [{ name: "kind", label: "Severity", options: [["", "All severities"], ["error", "Errors"], ["warning", "Warnings"], ["info", "Notes"]] }],
        render(place, { rows, leftOut }) {
          replace(place,
            rows.length > 0 ? el("ul", { class: "findings" }, rows.map(finding)) : empty("Nothing to report."),
            leftOut > 0 && el("p", { class: "muted" }, `${format.many(leftOut, "finding")} more are only in the log and in sluice check.`));
        },
      });
      list.refresh();
    },
    changed: () => list?.refresh(),
  };
}
