// Certificates that listeners show and authorities that they trust, the one that ends first first.

import { el, named, plain, replace } from "./dom.js";
import { List, empty, table } from "./list.js";
import * as format from "./format.js";

const SOON = 30;
const COLUMNS = [{ title: "Names" }, { title: "Days left", class: "number" }, { title: "State" }, { title: "Not after" }, { title: "Key" }, { title: "Issuer" }, { title: "Source" }, { title: "Listeners" }];

function state(certificate, days) {
  const level = (words, kind, sign) => el("span", { class: "mark", "data-level": kind }, el("span", { "aria-hidden": "true" }, sign), ` ${words}`);
  if (certificate.fault) return level("cannot be used", "bad", "✕");
  if (certificate.notBefore === undefined) return level("unreadable", "bad", "✕");
  if (certificate.notBefore * 1000 > Date.now()) return level("not valid yet", "bad", "○");
  if (days < 0) return level("expired", "bad", "✕");
  if (days < SOON) return level("ends soon", "warn", "▲");
  return level("valid", "ok", "●");
}

function row(certificate) {
  const days = certificate.notAfter === undefined ? undefined : Math.floor((certificate.notAfter - Date.now() / 1000) / 86400);
  const names = certificate.names?.length ? certificate.names : certificate.subject ? [certificate.subject] : [];
  const more = certificate.moreNames > 0 ? [el("span", { class: "muted" }, `and ${certificate.moreNames} more`)] : [];
  return {
    cells: [
      el("div", { class: "names" }, names.map((name) => named(name)), more, names.length === 0 && "–"),
      days === undefined ? "–" : format.count(days), el("div", {}, state(certificate, days), certificate.fault && el("span", { class: "because" }, plain(certificate.fault))),
      certificate.notAfter === undefined ? "–" : el("time", {}, format.day(certificate.notAfter)),
      certificate.key ?? "–", certificate.issuer ? named(certificate.issuer) : "–",
      el("div", {}, named(certificate.source), certificate.role === "authority" && el("span", { class: "muted" }, " trusted authority")),
      el("code", {}, certificate.used.join(", "), certificate.moreUses > 0 ? ` and ${certificate.moreUses} more` : ""),
    ],
  };
}

/** The view. */
export function view() {
  let list;
  return {
    id: "certificates",
    title: "Certificates",
    start(panel) {
      list = new List(panel, {
        path: "certificates", noun: "certificate", hint: "Name, Secret, file, listener…",
        choices: [{ name: "trouble", label: "Which certificates", options: [["", "All certificates"], ["true", "Those that cannot be used"]] }],
        render(place, { rows }) {
          replace(place, rows.length > 0 ? el("div", { class: "scroll" }, table("Certificates", COLUMNS, rows.map(row))) : empty("No certificate fits."));
        },
      });
      list.refresh();
    },
    changed: () => list?.refresh(),
  };
}
