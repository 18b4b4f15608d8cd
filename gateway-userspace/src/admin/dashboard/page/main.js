// The page: asks the agent every two seconds while it is looked at, and hands what it hears to the view that is shown.

import { ask } from "./agent.js";
import * as certificates from "./certificates.js";
import * as documents from "./documents.js";
import { announce, put } from "./dom.js";
import * as explain from "./explain.js";
import * as findings from "./findings.js";
import * as flows from "./flows.js";
import { History } from "./history.js";
import * as overview from "./overview.js";
import * as planes from "./planes.js";
import * as tabs from "./tabs.js";
import * as theme from "./theme.js";
import * as topology from "./topology.js";

const STEP = 2000;

const history = new History();
const show = overview.vitals();
const views = [topology, flows, planes, certificates, findings, documents, explain].map(({ view }) => view());
let now;
let before;
let pace = {};
let paused = false;
let lost = 0;
let timer;

function sample({ at, total, kernel, opaque, memory, cpu }) {
  const userSpace = Object.values(opaque).reduce((sum, number) => sum + number, 0);
  return {
    at, memory: memory ?? 0, cpu: cpu ?? 0,
    requests: total?.requests ?? 0, errors: total?.errors ?? 0,
    bytes: total ? total.received + total.sent + total.tcpReceived + total.tcpSent : 0,
    handoffs: kernel?.handoff.handedOver ?? 0, flows: (kernel?.flows ?? 0) + userSpace,
  };
}

function rates(first, last) {
  const seconds = first ? (last.at - first.at) / 1000 : 0;
  const of = (name) => (seconds > 0 && last.cpu >= first.cpu ? Math.max(0, last[name] - first[name]) / seconds : undefined);
  return { requests: of("requests"), errors: of("errors"), bytes: of("bytes"), handoffs: of("handoffs"), cpu: of("cpu"), flows: last.flows, memory: last.memory };
}

const board = tabs.start(views, () => timer && poll());

function hear(answer) {
  const isOther = now && (now.revision !== answer.revision || now.process !== answer.process);
  now = answer;
  const last = sample(now);
  history.add(last);
  // The agent answers alike for a moment: no time has passed then, and rates stay.
  if (!before || last.at > before.at) {
    pace = rates(before, last);
    before = last;
  }
  show(history, now, pace);
  overview.facts(now);
  overview.attention(now, (id, how) => {
    board.show(id);
    views.find((view) => view.id === id).how?.(how);
  });
  const { error = 0, warning = 0 } = now.findings;
  board.badge("diagnostics", error + warning, error > 0 ? "bad" : "warn");
  board.badge("certificates", now.credentialFaults, "bad");
  document.title = `${now.overload > 0 || error > 0 ? "● " : ""}Sluice`;
  for (const view of views) view.moved?.(now);
  if (isOther) for (const view of views) view.changed?.();
}

async function poll() {
  clearTimeout(timer);
  if (!document.hidden && !paused) {
    try {
      hear(await ask("now"));
      if (lost) announce("The agent answers again");
      lost = 0;
      await board.shown().tick?.();
    } catch (error) {
      if (!lost) announce("The agent does not answer");
      lost ||= Date.now();
      put(document.getElementById("state"), error.message);
    }
    overview.state(now ?? {}, lost, paused);
  }
  clearTimeout(timer);
  timer = setTimeout(poll, STEP);
}

theme.start();
const pause = document.getElementById("pause");
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  put(pause, paused ? "Resume" : "Pause");
  overview.state(now ?? {}, lost, paused);
  if (!paused) poll();
});
document.addEventListener("visibilitychange", () => !document.hidden && poll());
ask("history").then((kept) => history.begin(kept)).catch(() => {
  // Then the lines begin with this page.
}).finally(poll);
