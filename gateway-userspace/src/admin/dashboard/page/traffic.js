// Rates of clusters: differences between what was told now and some ten seconds ago.

import { quantile } from "./format.js";

const WINDOW = 10_000;

/** What is known of the clusters on the page, of one generation. */
export class Traffic {
  #generation;
  #readings = [];
  bounds = [];

  /** Takes an answer. */
  add(moving) {
    if (moving.generation !== this.#generation) this.#readings = [];
    this.#generation = moving.generation;
    this.#readings.push(moving);
    const oldest = moving.at - WINDOW;
    while (this.#readings.length > 2 && this.#readings[1].at <= oldest) this.#readings.shift();
  }

  /** Forgets everything: other clusters are asked for. */
  clear() {
    this.#readings = [];
  }

  /** A cluster's numbers; rates are undefined at the first reading. */
  of(place) {
    const last = this.#readings.at(-1);
    const cluster = last?.clusters[place];
    if (!cluster) return undefined;
    return { ...cluster, rates: this.#rates(place, cluster) };
  }

  #rates(place, cluster) {
    const last = this.#readings.at(-1);
    const first = this.#readings.find((reading) => reading.clusters[place]?.traffic);
    if (!cluster.traffic || !first || first === last) return undefined;
    const before = first.clusters[place].traffic;
    const now = cluster.traffic;
    const seconds = Math.max((last.at - first.at) / 1000, 0.001);
    const since = (name) => Math.max(0, now[name] - before[name]);
    const durations = now.durations.map((bucket, at) => Math.max(0, bucket - before.durations[at]));
    const requests = since("requests");
    return {
      requests: requests / seconds,
      errors: since("errors") / seconds,
      errorShare: requests > 0 ? since("errors") / requests : undefined,
      bytes: (since("received") + since("sent") + since("tcpReceived") + since("tcpSent")) / seconds,
      opened: since("opened") / seconds,
      p50: quantile(durations, this.bounds, 0.5),
      p99: quantile(durations, this.bounds, 0.99),
    };
  }
}

/** What is to be said of endpoints in the order of how bad it is: word, sign, and whether it is well. */
export const STATES = {
  failing: { sign: "▲", words: "failing its checks", level: "bad" },
  ejected: { sign: "✕", words: "ejected", level: "bad" },
  unready: { sign: "○", words: "not ready", level: "warn" },
  draining: { sign: "◐", words: "draining", level: "warn" },
  healthy: { sign: "●", words: "healthy", level: "ok" },
};

/** How bad the worst of a cluster's endpoints is. */
export function level(cluster) {
  const states = cluster?.states ?? {};
  const all = Object.values(states).reduce((sum, number) => sum + number, 0);
  if (!cluster) return undefined;
  if (all === 0 || !states.healthy) return "bad";
  const worst = Object.keys(STATES).find((state) => states[state] > 0);
  return STATES[worst]?.level === "ok" ? "ok" : "warn";
}

/** 3 of 4 healthy, 1 ejected. */
export function wellness(states) {
  const all = Object.values(states).reduce((sum, number) => sum + number, 0);
  if (all === 0) return "no endpoint";
  const healthy = states.healthy ?? 0;
  if (healthy === all) return all === 1 ? "1 healthy" : `${all} healthy`;
  const others = Object.keys(STATES).filter((state) => state !== "healthy" && states[state] > 0);
  return [`${healthy} of ${all} healthy`, ...others.map((state) => `${states[state]} ${STATES[state].words}`)].join(", ");
}
