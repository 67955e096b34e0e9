// Counts what clients asked in the last two minutes, and how long the answers took. The nodes tell counters, so
// everything is the difference of two answers.

import { attribute, byId, html, keyed, shown, svg, text } from "/dom.js";
import { count, list, rate } from "/format.js";

const KEPT_MS = 120_000;
/** Quantiles are of the last so many milliseconds: few requests make poor quantiles. */
const QUANTILES_MS = 15_000;
const CHART = { width: 320, height: 56 };
/** What a client is answered in good order: that a key is there already, or is not, is an answer and no fault. */
const ANSWERS = ["OK", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"];

/** The counters as each node told them last. */
const before = new Map();
/** What came since, each: until when, how long it took to come, and what it was, by what was asked. */
let samples = [];

const nameOf = (request) => (request.consistency ? `${request.method}, ${request.consistency}` : request.method);

function add(sample, request, earlier) {
  const more = request.count - (earlier?.count ?? 0);
  if (more <= 0) return;
  const name = nameOf(request);
  if (!sample.asked.has(name)) sample.asked.set(name, { count: 0, codes: new Map(), buckets: new Map() });
  const asked = sample.asked.get(name);
  asked.count += more;
  asked.codes.set(request.code, (asked.codes.get(request.code) ?? 0) + more);
  request.buckets.forEach(([bound, inside], position) => {
    const grown = inside - (earlier?.buckets[position]?.[1] ?? 0);
    if (grown > 0) asked.buckets.set(bound, (asked.buckets.get(bound) ?? 0) + grown);
  });
}

/** Notes what the nodes have counted since the last time. */
export function noteLoad(cluster) {
  const sample = { time: cluster.time, ms: 0, asked: new Map() };
  for (const node of cluster.nodes.filter((node) => node.status)) {
    const last = before.get(node.name);
    const keyed = new Map(node.requests.map((request) => [`${nameOf(request)} ${request.code}`, request]));
    before.set(node.name, { process: node.process, time: cluster.time, keyed });
    // A node that was not asked before has counted for nobody knows how long.
    if (!last || last.process !== node.process) continue;
    sample.ms = Math.max(sample.ms, cluster.time - last.time);
    for (const [key, request] of keyed) add(sample, request, last.keyed.get(key));
  }
  for (const name of before.keys()) {
    if (!cluster.nodes.some((node) => node.name === name)) before.delete(name);
  }
  if (sample.ms > 0) samples.push(sample);
  samples = samples.filter((kept) => kept.time > cluster.time - KEPT_MS);
}

/** The bound below which this part of the observations lies; nothing if there are none. */
function quantile(buckets, part) {
  const sorted = [...buckets].sort((one, other) => one[0] - other[0]);
  const total = sorted.reduce((sum, [, inside]) => sum + inside, 0);
  let seen = 0;
  for (const [bound, inside] of sorted) {
    seen += inside;
    if (seen >= part * total) return bound;
  }
  return null;
}

function bound(seconds) {
  if (seconds === null) return "–";
  if (seconds === Infinity) return "> 10 s";
  return seconds >= 1 ? `≤ ${seconds} s` : `≤ ${Number((seconds * 1000).toPrecision(3))} ms`;
}

function seriesOf(name, now) {
  const points = samples.map((sample) => {
    const asked = name === null ? [...sample.asked.values()] : [sample.asked.get(name)].filter(Boolean);
    return { time: sample.time, asked, rate: asked.reduce((sum, { count }) => sum + count, 0) / (sample.ms / 1000) };
  });
  const buckets = new Map();
  const codes = new Map();
  for (const { time, asked } of points) {
    for (const part of asked) {
      for (const [code, more] of part.codes) codes.set(code, (codes.get(code) ?? 0) + more);
      if (time <= now - QUANTILES_MS) continue;
      for (const [limit, inside] of part.buckets) buckets.set(limit, (buckets.get(limit) ?? 0) + inside);
    }
  }
  const faults = [...codes].filter(([code]) => !ANSWERS.includes(code));
  return { name: name ?? "All requests", points, buckets, faults };
}

function area(points, now, highest) {
  const place = ({ time, rate }) => [
    CHART.width * (1 - (now - time) / KEPT_MS), CHART.height - 2 - (CHART.height - 6) * (rate / highest),
  ].map((number) => number.toFixed(1)).join(" ");
  if (points.length === 0) return "";
  const [first, last] = [points[0], points[points.length - 1]];
  const foot = (point) => place({ time: point.time, rate: 0 });
  return `M${foot(first)} L${points.map(place).join(" L")} L${foot(last)} Z`;
}

function createChart() {
  return html("figure", { class: "chart" },
    html("figcaption", {}, html("b"), html("span", { class: "now" })),
    svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", preserveAspectRatio: "none" },
      svg("title"), svg("path")),
    html("p", { class: "latency" }), html("p", { class: "faults" }));
}

function updateChart(figure, { name, points, buckets, faults }, now) {
  const highest = Math.max(1, ...points.map((point) => point.rate));
  const last = points[points.length - 1]?.rate ?? 0;
  text(figure.querySelector("b"), name);
  text(figure.querySelector(".now"), `${rate(last)} a second`);
  text(figure.querySelector("title"), `${name}: ${rate(last)} a second now, ${rate(highest)} at most in two minutes`);
  attribute(figure.querySelector("path"), "d", area(points, now, highest));
  const [half, most] = [0.5, 0.99].map((part) => bound(quantile(buckets, part)));
  text(figure.querySelector(".latency"), `half ${half} · 99 of 100 ${most} · at most ${rate(highest)} a second`);
  const told = faults.map(([code, number]) => `${count(number)} ${code}`);
  text(figure.querySelector(".faults"), told.length > 0 ? `Not answered in good order: ${list(told)}` : "");
  shown(figure.querySelector(".faults"), told.length > 0);
}

/** Shows what was asked, all of it and each kind. */
export function showLoad() {
  const now = samples[samples.length - 1]?.time ?? 0;
  const names = [...new Set(samples.flatMap((sample) => [...sample.asked.keys()]))].sort();
  const charts = (names.length > 1 ? [null, ...names] : names).map((name) => seriesOf(name, now));
  keyed(byId("charts"), charts, (chart) => chart.name, createChart, (figure, chart) => updateChart(figure, chart, now));
  text(byId("load-note"), names.length > 0
    ? "The last two minutes, as the nodes counted whom they answered. A time is the bound of the bucket that it fell " +
      "into, in the last fifteen seconds."
    : "No client has asked for anything since this page was opened, or in the last two minutes.");
}
