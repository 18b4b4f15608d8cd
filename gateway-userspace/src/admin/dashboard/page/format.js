// Numbers as people read them.

const WHOLE = new Intl.NumberFormat("en");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const NONE = "–";

/** 12,345. */
export function count(number) {
  return number === undefined || number === null ? NONE : WHOLE.format(number);
}

/** 12,345 or 1.2 M: three digits that count. */
export function short(number) {
  if (number === undefined || number === null || Number.isNaN(number)) return NONE;
  if (number < 10 && number > 0 && !Number.isInteger(number)) return number.toFixed(number < 1 ? 2 : 1);
  if (number < 100_000) return WHOLE.format(Math.round(number));
  for (const [scale, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"]]) {
    if (number >= scale) return `${(number / scale).toPrecision(3)} ${unit}`;
  }
  return `${Math.round(number / 1000)} k`;
}

/** So many a second. */
export function rate(number) {
  return number === undefined || number === null ? NONE : `${short(number)}/s`;
}

/** 1.5 MiB, as `sluice flows` says it. */
export function bytes(number) {
  if (number === undefined || number === null) return NONE;
  let at = 0;
  let amount = number;
  while (amount >= 1024 && at < UNITS.length - 1) {
    amount /= 1024;
    at += 1;
  }
  return at === 0 ? `${Math.round(number)} B` : `${amount.toFixed(1)} ${UNITS[at]}`;
}

/** Bytes a second. */
export function bytesRate(number) {
  return number === undefined || number === null ? NONE : `${bytes(number)}/s`;
}

/** 3 d 4 h, 12 min, 7 s: the two largest parts. */
export function duration(seconds) {
  if (seconds === undefined || seconds === null) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor((whole % 86400) / 3600), "h"], [Math.floor((whole % 3600) / 60), "min"], [whole % 60, "s"]];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0).map(([amount, unit]) => `${amount} ${unit}`).join(" ");
}

/** Milliseconds with the digits that matter. */
export function milliseconds(number) {
  if (number === undefined || number === null) return NONE;
  if (number >= 10_000) return `${(number / 1000).toFixed(0)} s`;
  if (number >= 1000) return `${(number / 1000).toFixed(1)} s`;
  return `${number < 10 ? number.toFixed(1) : number.toFixed(0)} ms`;
}

/** Of 1. */
export function percent(part) {
  if (part === undefined || part === null || Number.isNaN(part)) return NONE;
  return `${(part * 100).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;
}

/** A time of day, of this browser's zone. */
export function clock(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}

/** 2026-03-01, UTC. */
export function day(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? NONE : date.toISOString().slice(0, 10);
}

/** A quantile of a histogram, by the bounds of its buckets; within a bucket values are taken to be spread evenly. */
export function quantile(buckets, bounds, part) {
  const all = buckets.reduce((sum, bucket) => sum + bucket, 0);
  if (all <= 0) return undefined;
  let before = 0;
  for (let at = 0; at < buckets.length; at += 1) {
    if (before + buckets[at] >= all * part && buckets[at] > 0) {
      const low = at === 0 ? 0 : bounds[at - 1];
      const high = bounds[at] ?? low;
      return low + ((high - low) * (all * part - before)) / buckets[at];
    }
    before += buckets[at];
  }
  return bounds.at(-1);
}

/** 1 route, 2 routes. */
export function many(number, noun, nouns = `${noun}s`) {
  return `${count(number)} ${number === 1 ? noun : nouns}`;
}
