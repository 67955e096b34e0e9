// Lists the requests that took longest lately, and shows where the time of one went: a waterfall of all nodes' spans,
// which can be played slowly.

import { readSpan } from "/cluster.js";
import { attribute, byId, calm, html, keyed, style, text } from "/dom.js";
import { clock, list, micros } from "/format.js";
import { markBusy } from "/ring.js";

/** Of those that the node itself ran, and of those that it passed on, of which the other node knows more. */
const LISTED_MAX = { ran: 8, passed: 4 };
const REPLAY_MS = 9000;
/** What a span is about, by how its name begins; the first that fits. */
const GROUPS = [["wal.", "disk"], ["raft.append", "disk"], ["raft.replicate", "network"], ["kv.forward", "network"],
  ["raft.quorum", "quorum"], ["raft.propose", "quorum"], ["sm.", "apply"], ["read.", "quorum"]];
const GROUP_WORDS = [["disk", "log and disk"], ["network", "on the way to another node"],
  ["quorum", "waits for a majority"], ["apply", "applied to the keys"], ["other", "the rest"]];

let replay = 0;
let shownBefore = new Map();

const groupOf = (name) => GROUPS.find(([begin]) => name.startsWith(begin))?.[1] ?? "other";

/** The spans with their depths, each behind what it is part of; and from when until when. */
function arrange(spans) {
  const ids = new Set(spans.map((span) => span.id));
  const parts = Map.groupBy(spans, (span) => (ids.has(span.parent) && span.parent !== span.id ? span.parent : ""));
  const rows = [];
  const visit = (id, depth) => {
    for (const span of [...(parts.get(id) ?? [])].sort((one, other) => one.start - other.start)) {
      if (rows.length < 200) rows.push({ ...span, depth });
      if (depth < 24) visit(span.id, depth + 1);
    }
  };
  visit("", 0);
  const from = Math.min(...rows.map((row) => row.start));
  const until = Math.max(...rows.map((row) => row.start + row.micros / 1000));
  return { rows, from, ms: Math.max(until - from, 0.001) };
}

/** What took longest of the request's parts that have no parts themselves, and that it waited for. */
function longest(spans) {
  const parents = new Set(spans.map((span) => span.parent));
  const end = (span) => span.start + span.micros / 1000;
  const leaves = spans.filter((span) => !parents.has(span.id) && end(span) <= end(spans[0]) + 0.01);
  return leaves.reduce((most, span) => (span.micros > (most?.micros ?? -1) ? span : most), null);
}

function createRow(row) {
  const bar = html("i", { class: "bar", "data-group": groupOf(row.name) });
  const told = row.attributes.map(([name, value]) => `${name} = ${value}`).join("\n");
  return html("li", { "data-span": row.name, title: told },
    html("span", { class: "span-name" }, html("b", {}, row.name), html("span", { class: "span-node" }, row.node)),
    html("span", { class: "lane", "aria-hidden": "true" }, bar), html("span", { class: "span-time" }));
}

function updateRow(item, row, { from, ms }) {
  style(item.querySelector(".span-name"), "padding-left", `${Math.min(row.depth, 9) * 0.8}rem`);
  style(item.querySelector(".bar"), "left", `${(((row.start - from) / ms) * 100).toFixed(2)}%`);
  style(item.querySelector(".bar"), "width", `${((row.micros / 1000 / ms) * 100).toFixed(2)}%`);
  attribute(item, "data-failed", row.failed ? "1" : null);
  text(item.querySelector(".span-time"), micros(row.micros));
}

function draw(details, spans) {
  const view = arrange(spans);
  keyed(details.querySelector(".waterfall"), view.rows, (row) => row.id, createRow,
    (item, row) => updateRow(item, row, view));
  details.trace = view;
  const nodes = [...new Set(view.rows.map((row) => row.node))].sort();
  const told = `${view.rows.length} spans of ${list(nodes)}, from ${clock(view.from)} on.`;
  text(details.querySelector(".trace-note"), `${told} Each node places its own by its own clock.`);
}

/** Plays the trace so slowly that each part of it can be seen. */
function play(details) {
  cancelAnimationFrame(replay);
  const { rows, from, ms } = details.trace;
  const items = [...details.querySelectorAll("[data-span]")];
  const head = details.querySelector(".head");
  const begun = performance.now();
  const step = (now) => {
    const part = Math.min(1, (now - begun) / REPLAY_MS);
    const moment = from + part * ms;
    const active = rows.map((row) => row.start <= moment && moment < row.start + row.micros / 1000 && part < 1);
    items.forEach((item, position) => attribute(item, "data-active", active[position] ? "1" : null));
    style(head, "left", `${(part * 100).toFixed(2)}%`);
    attribute(head, "data-on", part < 1 && !calm() ? "1" : null);
    // The deepest of each node says what it does just now.
    const deepest = new Map();
    rows.forEach((row, position) => {
      if (active[position] && row.depth >= (deepest.get(row.node)?.depth ?? 0)) deepest.set(row.node, row);
    });
    const said = [...deepest.values()].map((row) => `${row.node}: ${row.name}`);
    text(details.querySelector(".replay-now"), part < 1 ? `${micros(part * ms * 1000)} – ${said.join(", ")}` : "");
    markBusy([...deepest.keys()], [...new Set([...deepest.values()].map((row) => row.name))].join(" and "));
    if (part < 1 && details.open) replay = requestAnimationFrame(step);
    else markBusy([], "");
  };
  replay = requestAnimationFrame(step);
}

async function open(details, slow) {
  draw(details, slow.spans);
  try {
    const answer = await fetch(`/trace.json?id=${encodeURIComponent(slow.id)}`, { cache: "no-store" });
    const spans = answer.ok ? ((await answer.json()).spans ?? []).map(readSpan) : [];
    // A request that nobody had sampled is known to its own node only.
    if (spans.length > slow.spans.length) draw(details, spans);
  } catch {
    text(details.querySelector(".trace-note"), "The other nodes could not be asked; this is what its own node has.");
  }
}

function legend() {
  return html("ul", { class: "legend" }, ...GROUP_WORDS.map(([group, words]) => html("li", {},
    html("i", { class: "swatch bar", "data-group": group, "aria-hidden": "true" }), html("span", {}, words))));
}

function createSlow(slow) {
  const button = html("button", { type: "button", class: "quiet" }, "Replay slowly");
  const factor = Math.max(1, Math.round(REPLAY_MS / Math.max(slow.micros / 1000, 0.001)));
  const details = html("details", {},
    html("summary", {}, html("b", { class: "took" }, micros(slow.micros)), html("span", { class: "what" }),
      html("span", { class: "where" })),
    html("div", { class: "replay" }, button, html("span", { class: "note" }, `${factor} times slower than it was`),
      html("span", { class: "replay-now", role: "status" })),
    html("div", { class: "stage" }, html("ol", { class: "waterfall" }),
      html("div", { class: "head-lane", "aria-hidden": "true" }, html("i", { class: "head" }))),
    html("p", { class: "note trace-note" }), legend());
  details.addEventListener("toggle", () => details.open && open(details, slow));
  button.addEventListener("click", () => details.trace && play(details));
  return html("li", { "data-slow": slow.id }, details);
}

function updateSlow(item, slow) {
  const most = longest(slow.spans);
  const first = slow.spans[0];
  text(item.querySelector(".what"), `${first?.name.replace(/^.*[./]([^./]+\/)/, "$1") ?? "request"} at ${slow.node}`);
  text(item.querySelector(".where"), most && most !== first ? `longest: ${most.name}, ${micros(most.micros)}` : "");
}

/** Shows the list. What is open stays open. */
export function showSlow(cluster) {
  const longestOf = new Map();
  for (const slow of cluster.nodes.flatMap((node) => node.slow)) {
    if (slow.micros > (longestOf.get(slow.id)?.micros ?? -1)) longestOf.set(slow.id, slow);
  }
  const sorted = [...longestOf.values()].sort((one, other) => other.micros - one.micros);
  const wasPassed = (slow) => longest(slow.spans)?.name === "kv.forward";
  const ran = sorted.filter((slow) => !wasPassed(slow)).slice(0, LISTED_MAX.ran);
  const passed = sorted.filter(wasPassed).slice(0, LISTED_MAX.passed);
  const slowest = sorted.filter((slow) => ran.includes(slow) || passed.includes(slow));
  const isOpen = (slow) => byId("slow-list").querySelector(`[data-slow="${CSS.escape(slow.id)}"] details[open]`);
  const isListed = (slow) => slowest.some((other) => other.id === slow.id);
  const rest = [...shownBefore.values()].filter((slow) => isOpen(slow) && !isListed(slow));
  const listed = [...slowest, ...rest];
  shownBefore = new Map(listed.map((slow) => [slow.id, slow]));
  keyed(byId("slow-list"), listed, (slow) => slow.id, createSlow, updateSlow);
  const none = "No request has been answered yet, or none in the last ten minutes.";
  text(byId("slow-empty"), listed.length > 0 ? "" : none);
}

/** Follows `#slow` to the list, and `#slow=ID` to one of its requests. */
export function openFromHash() {
  const [, id] = location.hash.match(/^#slow(?:=([0-9a-f]+))?$/) ?? [null, null];
  if (id === null) return;
  const details = id ? byId("slow-list").querySelector(`[data-slow="${id}"] details`)
    : byId("slow-list").querySelector("details");
  byId("slow-requests").scrollIntoView();
  if (details && id) details.open = true;
}
