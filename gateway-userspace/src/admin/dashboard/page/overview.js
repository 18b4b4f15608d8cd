// What stands above all views: how the agent is, its vital signs, and what needs attention.

import { el, put, replace, svg } from "./dom.js";
import * as format from "./format.js";
import { draw } from "./spark.js";

const OVERLOAD = ["", "closing connections that are idle", "refusing new connections and requests", "shedding what is under way"];

const SIGNS = [
  { id: "requests", title: "Requests", of: "rates", show: format.rate, words: "requests a second" },
  { id: "errors", title: "Errors (5xx)", of: "rates", show: format.rate, words: "answers of 500 and above, and failures of gRPC, a second", level: (value) => (value > 0 ? "bad" : undefined) },
  { id: "bytes", title: "Throughput", of: "rates", show: format.bytesRate, words: "bytes a second, both planes, both ways" },
  { id: "flows", title: "Flows", of: "values", show: format.short, words: "flows in the kernel and opaque connections in user space" },
  { id: "handoffs", title: "Handoffs", of: "rates", show: format.rate, words: "connections a second given to the kernel" },
  { id: "cpu", title: "CPU", of: "rates", show: format.percent, words: "of one core" },
  { id: "memory", title: "Memory", of: "values", show: format.bytes, words: "resident memory" },
];

/** The vital signs' places. */
export function vitals() {
  const place = document.getElementById("vitals");
  const signs = SIGNS.map((sign) => {
    const value = el("span", { class: "value", id: `vital-${sign.id}` }, "–");
    const note = el("span", { class: "note" });
    const line = svg("svg", { class: "spark", focusable: "false" });
    place.append(el("div", { class: "vital", "data-sign": sign.id }, el("span", { class: "title" }, sign.title), note, value, line));
    return { ...sign, value, note, line };
  });
  return (history, now, rates) => {
    for (const sign of signs) {
      const values = history[sign.of](sign.id);
      const value = rates[sign.id];
      put(sign.value, sign.show(value));
      const level = sign.level?.(value);
      if (sign.value.dataset.level !== level) level ? (sign.value.dataset.level = level) : delete sign.value.dataset.level;
      const top = Math.max(0, ...values.map((it) => it.value));
      const least = Math.min(top, ...values.map((it) => it.value));
      draw(sign.line, values, history.span, `${sign.title}, last ${format.duration(history.span / 1000)}: ${sign.show(values.length ? least : undefined)} to ${sign.show(values.length ? top : undefined)}, ${sign.words}`);
    }
    const notes = {
      requests: now.total ? `${format.count(now.total.requests)} in all` : "not counted",
      errors: now.total ? `${format.count(now.total.errors)} in all` : "not counted",
      bytes: now.total ? `${format.bytes(now.total.received + now.total.sent + now.total.tcpReceived + now.total.tcpSent)} in all` : "not counted",
      flows: now.kernel ? `${format.count(now.kernel.flows)} in the kernel` : "user space",
      handoffs: now.kernel ? `${format.count(now.kernel.handoff.handedOver)} in all` : "no kernel plane",
      cpu: "of one core",
      memory: "resident",
    };
    for (const sign of signs) put(sign.note, notes[sign.id]);
  };
}

/** The facts of the head. */
export function facts(now) {
  const since = now.applied ? format.duration((now.at - now.applied) / 1000) : undefined;
  const list = [
    ["Generation", `${format.count(now.generation)}${since ? `, ${since} ago` : ""}`],
    ["Documents", format.count(now.documents)],
    ["Kernel plane", now.kernelOff ? "off" : "on"],
    ["Version", now.version],
  ];
  if (now.cluster) list.push(["API server", now.cluster.stateAge > 0 ? `silent for ${format.duration(now.cluster.stateAge)}` : "heard"]);
  replace(document.getElementById("facts"), list.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** The word beside the name; `lost` is since when nobody answers, in milliseconds. */
export function state(now, lost, paused) {
  const place = document.getElementById("state");
  const [level, words] = lost
    ? ["bad", "Agent does not answer"]
    : paused ? ["warn", "Paused"] : now.ready ? ["ok", "Ready"] : ["warn", "Not ready"];
  place.dataset.state = level;
  put(place, words);
}

/** What needs attention, each with where to look. */
export function attention(now, go) {
  const found = [];
  const add = (level, words, view, how) => found.push({ level, words, view, how });
  if (now.overload > 0) add("bad", `Overload, step ${now.overload}: ${OVERLOAD[now.overload]}`, "planes");
  for (const [listener, reason] of now.bindFailures.slice(0, 3)) add("bad", `Listener ${listener} is not open: ${reason}`, "topology");
  if (now.credentialFaults > 0) add("bad", `${format.many(now.credentialFaults, "certificate")} cannot be used`, "certificates");
  if (now.findings.error > 0) add("bad", `${format.many(now.findings.error, "error")} in documents`, "diagnostics");
  if (now.cluster?.stateAge > 0) add("bad", `Changes have not been heard from the API server for ${format.duration(now.cluster.stateAge)}`, "documents");
  const { failing, ejected, unready, draining } = now.endpoints;
  const unwell = [[failing, "failing checks"], [ejected, "ejected"], [unready, "not ready"], [draining, "draining"]].filter(([number]) => number > 0);
  if (unwell.length > 0) {
    add(failing + ejected > 0 ? "bad" : "warn", `Endpoints: ${unwell.map(([number, words]) => `${format.count(number)} ${words}`).join(", ")}`, "topology", "trouble");
  }
  if (now.limited.length > 0) add("warn", `Limits hit: ${format.many(now.limited.reduce((sum, { count }) => sum + count, 0), "refusal")}`, "planes");
  if (now.accessLogDropped > 0) add("warn", `The access log has lost ${format.many(now.accessLogDropped, "line")}`, "planes");
  if (now.findings.warning > 0) add("warn", `${format.many(now.findings.warning, "warning")} about documents`, "diagnostics");
  if (now.kernelOff) add("info", `User space alone: ${now.kernelOff}`, "planes");
  const place = document.getElementById("attention");
  place.hidden = found.length === 0;
  const signs = { bad: "Trouble", warn: "Warning", info: "Note" };
  const text = JSON.stringify(found);
  if (place.dataset.shown === text) return;
  place.dataset.shown = text;
  replace(place, el("ul", {}, found.map(({ level, words, view, how }) => el("li", { "data-level": level },
    el("button", { type: "button", "data-key": `attention-${view}-${level}`, on: { click: () => go(view, how) } }, el("strong", {}, signs[level]), " ", el("span", {}, words))))));
}
