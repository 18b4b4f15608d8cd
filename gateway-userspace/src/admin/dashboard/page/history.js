// The last quarter of an hour: what the agent has kept of it, and what this page has seen since.

const SPAN = 15 * 60 * 1000;
const LEAST = 2 * 60 * 1000;

/** Samples of counters, the oldest first; rates are differences of neighbours. */
export class History {
  #samples = [];
  #step = 5000;

  /** Takes what the agent has kept. */
  begin({ samples, stepMilliseconds }) {
    this.#step = stepMilliseconds;
    const newest = samples.at(-1)?.at ?? 0;
    this.#samples = [...samples, ...this.#samples.filter(({ at }) => at > newest)];
  }

  /** Takes a sample of now; those that come sooner than the agent's own are left out. */
  add(sample) {
    const last = this.#samples.at(-1);
    // Counters of another process begin anew.
    if (last && sample.cpu < last.cpu) this.#samples = [];
    if (!last || sample.at - last.at >= this.#step - 100) this.#samples.push(sample);
    const oldest = sample.at - SPAN;
    while (this.#samples.length > 0 && this.#samples[0].at < oldest) this.#samples.shift();
  }

  /** How many milliseconds are shown: what there is, and two minutes at least. */
  get span() {
    const [first] = this.#samples;
    return Math.min(SPAN, Math.max(LEAST, first ? this.#samples.at(-1).at - first.at : 0));
  }

  /** Values of a gauge. */
  values(name) {
    return this.#samples.map((sample) => ({ at: sample.at, value: sample[name] }));
  }

  /** Values a second of a counter. */
  rates(name) {
    return this.#samples.slice(1).map((sample, index) => {
      const before = this.#samples[index];
      const seconds = Math.max((sample.at - before.at) / 1000, 0.001);
      return { at: sample.at, value: Math.max(0, sample[name] - before[name]) / seconds };
    });
  }
}
