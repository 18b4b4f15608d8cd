// The documents in force, and how the state is that they are of.

import { el, named, plain, replace } from "./dom.js";
import { List, empty, table } from "./list.js";
import * as format from "./format.js";

const COLUMNS = [{ title: "Kind" }, { title: "Namespace" }, { title: "Name" }, { title: "Place" }];

function facts(now) {
  const list = [
    ["Generation in force", format.count(now.generation)],
    ["Last applied", now.applied ? `${format.clock(now.applied)}, ${format.duration((now.at - now.applied) / 1000)} ago` : "never"],
    ["Documents found", format.count(now.documents)],
    ["Fingerprint", el("code", {}, now.fingerprint)],
  ];
  if (now.cluster) {
    list.push(["State of the cluster", now.cluster.stateAge > 0 ? `${format.duration(now.cluster.stateAge)} old` : "changes are heard"]);
    for (const [what, why] of Object.entries(now.cluster.lost)) list.push([`Not heard: ${plain(what)}`, plain(why)]);
    if (now.cluster.absent.length > 0) list.push(["Kinds the cluster lacks", now.cluster.absent.map(plain).join(", ")]);
  } else {
    list.push(["Read from", "files"]);
  }
  return el("dl", { class: "pairs wide" }, list.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** The view. */
export function view() {
  let list;
  let head;
  return {
    id: "documents",
    title: "Documents",
    start(panel) {
      head = el("div");
      panel.append(head);
      list = new List(panel, {
        path: "documents", noun: "document", hint: "Kind, namespace, name, file…",
        choices: [{ name: "kind", label: "Kind of documents", options: [["", "All kinds"]] }],
        render(place, { rows, kinds }) {
          list.put_kind([["", "All kinds"], ...Object.entries(kinds).map(([kind, number]) => [kind, `${kind} (${format.count(number)})`])]);
          replace(place, rows.length > 0
            ? el("div", { class: "scroll" }, table("Documents in force", COLUMNS, rows.map(({ kind, namespace, name, place: at }) => ({ cells: [plain(kind), named(namespace), named(name), at ? el("code", {}, plain(at)) : "API server"] }))))
            : empty("No document fits. Those that are broken are under Diagnostics."));
        },
      });
      list.refresh();
    },
    moved: (now) => head && replace(head, facts(now)),
    changed: () => list?.refresh(),
  };
}
