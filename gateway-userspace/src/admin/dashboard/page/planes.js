// The two planes: what carries what, how full the kernel's tables are, what was refused and by which limits.

import { el, plain, replace } from "./dom.js";
import { empty, table } from "./list.js";
import * as format from "./format.js";

const BECAME = { sent: "Sent on", dropped: "Dropped", passed: "Passed to user space" };

function pairs(list) {
  return el("dl", { class: "pairs" }, list.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function meter(words, used, room) {
  const part = room > 0 ? used / room : 0;
  const bar = el("meter", { min: "0", max: String(room || 1), high: String(room * 0.75), value: String(used), "aria-label": words });
  return [`${words}`, el("span", { class: "metered" }, bar, ` ${format.count(used)} of ${format.count(room)} (${format.percent(part)})`)];
}

function kernel(now) {
  if (now.kernelOff) {
    return [el("p", { class: "lead", "data-level": "warn" }, el("strong", {}, "Off. "), plain(now.kernelOff)), el("p", { class: "muted" }, "Everything is served in user space; the same documents work.")];
  }
  const { kernel: plane } = now;
  if (!plane) return [empty("The kernel plane does not answer at the moment.")];
  const { handoff } = plane;
  const refused = Object.entries(handoff.refused ?? {});
  return [
    pairs([
      ["Interfaces", plane.interfaces.map(({ name, hook, clients }) => `${plain(name)} (${hook}${clients ? ", clients" : ""})`).join(", ") || "none"],
      meter("Flows", plane.flows, plane.maxFlows),
      meter("Handshakes", plane.handshakes, plane.maxHandshakes),
      meter("Translations", plane.inUse.translations, plane.maxFlows),
      ["Source ports in use", format.count(plane.inUse.sourcePorts)],
      ["Memory of the tables", format.bytes(plane.memory)],
      ["Handed over", `${format.count(handoff.handedOver)} of ${format.count(handoff.attempted)} attempts${handoff.attempted ? `, ${handoff.microseconds.p50} µs (p50), ${handoff.microseconds.p99} µs (p99)` : ""}`],
      ...refused.map(([reason, number]) => [`Not handed over: ${plain(reason)}`, format.count(number)]),
    ]),
    el("h3", {}, "Packets by verdict"),
    table("Packets by verdict, since the maps were made", [{ title: "Verdict" }, { title: "What became of them" }, { title: "Packets", class: "number" }],
      Object.entries(plane.verdicts).flatMap(([became, verdicts]) => Object.entries(verdicts).map(([verdict, number]) => ({ cells: [el("code", {}, verdict), BECAME[became], format.count(number)] })))),
  ];
}

function userSpace(now) {
  const opaque = Object.entries(now.opaque).map(([tier, number]) => `${format.count(number)} ${tier}`).join(", ");
  const limits = now.limited.map(({ limit, name, count }) => ({ cells: [el("bdi", {}, plain(name)), limit, format.count(count)] }));
  const refused = Object.entries(now.refused).map(([reason, number]) => ({ cells: [el("code", {}, reason), format.count(number)] }));
  return [
    pairs([
      ["Opaque connections", opaque || "none"],
      ["Highest tier", now.highestTier],
      ["Overload", now.overload === 0 ? "none" : `step ${now.overload} of 3`],
      ["Series of metrics", now.total ? `${format.count(now.series[0])} of ${format.count(now.series[1])}` : "requests are not counted (--metrics-address none)"],
      ["Lines that access logs lost", format.count(now.accessLogDropped)],
    ]),
    el("h3", {}, "Refused, by reason"),
    refused.length > 0 ? table("Requests, answers and connections refused", [{ title: "Reason" }, { title: "Times", class: "number" }], refused) : empty("Nothing has been refused."),
    el("h3", {}, "Limits that were hit"),
    limits.length > 0 ? table("Limits that were hit", [{ title: "Of" }, { title: "Limit" }, { title: "Refusals", class: "number" }], limits) : empty("No limit has been hit."),
  ];
}

/** The view. */
export function view() {
  let places;
  return {
    id: "planes",
    title: "Planes",
    start(panel) {
      places = [["Kernel", "kernel"], ["User space", "user"]].map(([title, id]) => {
        const place = el("div");
        panel.append(el("section", { class: "card", "aria-labelledby": `plane-${id}` }, el("h2", { id: `plane-${id}` }, title), place));
        return place;
      });
      panel.classList.add("halves");
    },
    moved(now) {
      if (!places) return;
      replace(places[0], kernel(now));
      replace(places[1], userSpace(now));
    },
  };
}
