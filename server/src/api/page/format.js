// Says numbers, durations and lists in words and digits. Whatever is not a number is said as a dash.

const GROUPED = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const pad = (number, digits = 2) => String(number).padStart(digits, "0");

/** A whole number with separators between thousands. */
export function count(number) {
  return Number.isFinite(number) ? GROUPED.format(number) : "–";
}

/** A small number as a word. */
export function word(number) {
  return WORDS[number] ?? count(number);
}

/** A small number as a word at the start of a sentence. */
export function Word(number) {
  const said = word(number);
  return said[0].toUpperCase() + said.slice(1);
}

/** `1 entry`, `2 entries`. */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

function digits(number) {
  if (number >= 100) return GROUPED.format(number);
  return number >= 10 ? number.toFixed(1) : number.toFixed(2);
}

/** A duration that is given in microseconds. */
export function micros(duration) {
  if (!Number.isFinite(duration)) return "–";
  if (duration < 1000) return `${Math.round(duration)} µs`;
  if (duration < 1_000_000) return `${digits(duration / 1000)} ms`;
  return `${digits(duration / 1_000_000)} s`;
}

/** A number of bytes. */
export function bytes(number) {
  if (!Number.isFinite(number)) return "–";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${count(number)} bytes` : `${digits(number)} ${units[unit]}`;
}

/** A rate per second. */
export function rate(number) {
  if (!Number.isFinite(number)) return "–";
  if (number >= 10 || number === 0) return GROUPED.format(number);
  return number < 0.05 ? "<0.1" : number.toFixed(1);
}

/** How long, roughly: for ages and uptimes, from milliseconds. */
export function span(ms) {
  if (!Number.isFinite(ms)) return "–";
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${GROUPED.format(Math.round(seconds / 86_400))} days`;
}

/** A time of day with milliseconds, in the time zone of the browser. */
export function clock(ms, exact = true) {
  const date = new Date(ms);
  if (!Number.isFinite(ms) || Number.isNaN(date.getTime())) return "–";
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return exact ? `${time}.${pad(date.getMilliseconds(), 3)}` : time;
}

/** `n1`, `n1 and n2`, `n1, n2 and n3`. */
export function list(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

/** The verb in the number of its subjects. */
export function verb(names, one, many) {
  return names.length === 1 ? one : many;
}
