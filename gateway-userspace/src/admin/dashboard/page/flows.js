// Flows of both planes, the fastest first, as `sluice flows -o wide` has them.

import { el, named, replace } from "./dom.js";
import { List, empty, table } from "./list.js";
import * as format from "./format.js";

const COLUMNS = [
  { title: "Client" }, { title: "Gateway" }, { title: "Backend" }, { title: "Plane and tier" },
  { title: "Rate", class: "number", hint: "Both directions, since the reading before" }, { title: "To backend", class: "number" }, { title: "To client", class: "number" },
  { title: "Age", class: "number" }, { title: "Idle", class: "number" }, { title: "State" }, { title: "Why no better, server name" },
];

/** A tier as a badge. */
export function tier(name) {
  return el("span", { class: "tier", "data-tier": name }, name);
}

function row(flow) {
  const why = [flow.reason && el("span", { class: "reason" }, flow.reason), flow.sni && named(flow.sni, { class: "name sni" })];
  return {
    cells: [
      el("code", {}, flow.client), el("code", {}, flow.gateway),
      el("code", { title: `from ${flow.source}` }, flow.backend),
      el("span", { class: "plane" }, flow.plane, " ", tier(flow.tier)),
      format.bytesRate(flow.bytesPerSecond), format.bytes(flow.bytesToBackend), format.bytes(flow.bytesToClient),
      format.duration(flow.ageSeconds), format.duration(flow.idleSeconds), flow.state, why.some(Boolean) ? el("span", { class: "why" }, why) : "–",
    ],
  };
}

/** The view. */
export function view() {
  let list;
  let sums;
  return {
    id: "flows",
    title: "Flows",
    start(panel) {
      sums = el("p", { class: "sums" });
      panel.append(sums);
      list = new List(panel, {
        path: "flows", noun: "flow", hint: "Address, port, server name, reason…",
        choices: [{ name: "kind", label: "Plane or tier", options: [["", "All planes"], ["kernel", "Kernel: steered"], ["handoff", "Kernel: handed over"], ["user space", "User space"], ["splice", "User space: splice"], ["copy", "User space: copy"]] }],
        render(place, answer) {
          const cut = answer.isCut ? "; more than are looked at" : "";
          replace(sums, el("span", {}, `${format.many(answer.kernel, "flow")} in the kernel, ${format.many(answer.userSpace, "opaque connection")} in user space${cut}`));
          replace(place, answer.rows.length > 0
            ? el("div", { class: "scroll" }, table("Flows, the fastest first", COLUMNS, answer.rows.map(row)))
            : empty("No flow fits. TCP, passed-through TLS and WebSockets are listed here; requests of HTTP are counted in the topology."));
        },
      });
    },
    tick: () => list?.refresh(),
  };
}
