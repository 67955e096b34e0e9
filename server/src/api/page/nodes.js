// The cards of the nodes, and the strips of their logs on a common scale.

import { attribute, byId, html, keyed, shown, style, text } from "/dom.js";
import { ROLE_WORDS } from "/cluster.js";
import { bytes, count, list, plural, span } from "/format.js";

const MARKS = { leader: "★", follower: "●", candidate: "?", pre_candidate: "?", outside: "○", unreachable: "✕" };
const FIELDS = [
  ["term", "Term"], ["lag", "Behind"], ["commit", "Committed"], ["applied", "Applied"], ["revision", "Revision"],
  ["keys", "Keys"], ["sessions", "Sessions"], ["snapshot", "Snapshot"], ["since", "New log"],
];

function values(node) {
  const status = node.status;
  const lag = node.lag === null ? "–" : plural(node.lag, "entry", "entries");
  if (!status) return { lag, term: "–" };
  return {
    term: count(status.term),
    lag: node.role === "leader" ? "leads" : lag,
    commit: count(status.commit_index),
    applied: count(status.applied_index),
    revision: count(status.revision),
    keys: count(status.key_count),
    sessions: count(status.session_count),
    snapshot: status.snapshot_index > 0 ? `to ${count(status.snapshot_index)}` : "none",
    since: bytes(status.log_bytes_since_snapshot),
  };
}

function cardState(node) {
  if (!node.status) return ["bad", `Could not be asked: ${node.error || "no reason given"}`];
  const told = [];
  if (node.status.storage_full) told.push("Disk full: writes that need room are refused.");
  if (node.status.recovering) told.push("Recovers part of its log from the others; does not vote until then.");
  if (!node.status.ready) told.push(`Not ready: ${node.status.not_ready_reason || "no reason given"}`);
  if (told.length > 0) return ["warn", told.join(" ")];
  return ["ok", "Ready, disk has room"];
}

function createCard(node) {
  const fields = FIELDS.map(([key, label]) => html("div", { "data-field": key },
    html("dt", {}, label), html("dd")));
  return html("article", { class: "card", "data-node": node.name },
    html("header", {}, html("h3", {}, node.name), html("span", { class: "role" },
      html("span", { class: "mark", "aria-hidden": "true" }), html("span", { class: "role-word" }))),
    html("p", { class: "state" }), html("dl", {}, ...fields), html("p", { class: "fine" }));
}

function updateCard(card, node, self) {
  attribute(card, "data-role", node.role);
  attribute(card, "data-term", node.status ? node.status.term : "");
  text(card.querySelector(".mark"), MARKS[node.role]);
  text(card.querySelector(".role-word"), ROLE_WORDS[node.role]);
  const [level, state] = cardState(node);
  const line = card.querySelector(".state");
  attribute(line, "data-level", level);
  text(line, state);
  const told = values(node);
  for (const field of card.querySelectorAll("[data-field]")) {
    const value = told[field.dataset.field];
    shown(field, value !== undefined);
    if (value !== undefined) text(field.querySelector("dd"), value);
  }
  const dropped = (node.status?.dropped ?? []).reduce((sum, entry) => sum + entry.count, 0);
  const reasons = (node.status?.dropped ?? []).map((entry) => `${entry.reason} ${count(entry.count)}`);
  const fine = [node.name === self ? "serves this page" : "",
    node.status?.version ? `version ${node.status.version}` : "",
    dropped > 0 ? `dropped ${plural(dropped, "message")}: ${list(reasons)}` : ""];
  text(card.querySelector(".fine"), fine.filter(Boolean).join(" · "));
}

/** Shows a card for each node. */
export function showCards(cluster) {
  keyed(byId("cards"), cluster.nodes, (node) => node.name, createCard,
    (card, node) => updateCard(card, node, cluster.self));
  text(byId("cards-empty"), cluster.nodes.length === 0 ? "No node is known." : "");
}

const LAYERS = [
  ["snapshot", "In a snapshot only", "no longer in the log; its effect is in the snapshot"],
  ["applied", "Applied", "carried out on the keys and values"],
  ["committed", "Committed", "durable on a majority: no leader to come can lack it"],
  ["durable", "Durable", "on this node’s own disk, not known as committed yet"],
  ["appended", "Appended", "in the log, its disk not synced yet"],
];
const scale = { size: 48, roomy: 0 };

/** The least power-of-two window that shows what differs between the nodes; it shrinks only after a while. */
function windowOf(cluster) {
  const logs = cluster.up.filter((node) => node.status.last_index > 0).map((node) => node.status);
  const newest = Math.max(1, ...logs.map((log) => log.last_index));
  const oldest = Math.min(newest, ...logs.map((log) => Math.min(log.applied_index, log.last_index)));
  let wanted = 48;
  while (wanted < (newest - oldest) * 1.2 + 12) wanted *= 2;
  scale.roomy = wanted < scale.size ? scale.roomy + 1 : 0;
  if (wanted > scale.size || scale.roomy > 8) {
    scale.size = wanted;
    scale.roomy = 0;
  }
  const to = newest + Math.max(2, Math.round(scale.size / 24));
  return { from: Math.max(0, to - scale.size), to, newest };
}

function bounds(log, from) {
  const last = Math.max(log.last_index, log.snapshot_index);
  const marks = [Math.min(Math.max(log.first_index, 1) - 1, last), log.applied_index, log.commit_index,
    log.durable_index, last];
  let at = from;
  return marks.map((mark, layer) => {
    const start = at;
    at = Math.max(at, Math.min(layer === 4 ? mark : Math.min(mark, last), Number.MAX_SAFE_INTEGER));
    return [start, at];
  });
}

function stripWords(node) {
  const log = node.status;
  if (!log) {
    const known = node.link?.match > 0 ? `; the leader knows it to have up to ${count(node.link.match)}` : "";
    return `no answer${known}`;
  }
  if (log.last_index === 0) return "empty";
  const open = [];
  const more = (number, what) => number > 0 && open.push(`${count(number)} ${what}`);
  more(log.commit_index - log.applied_index, "to apply");
  more(log.durable_index - log.commit_index, "durable, not committed");
  more(log.last_index - Math.max(log.durable_index, log.commit_index), "not synced");
  return `up to ${count(log.last_index)}${open.length > 0 ? ` · ${open.join(" · ")}` : " · all applied"}`;
}

function createStrip(node) {
  const layers = LAYERS.map(([layer]) => html("i", { class: "layer", "data-layer": layer }));
  return html("div", { class: "strip" },
    html("div", { class: "strip-name" }, html("b", {}, node.name), html("span", { class: "strip-role" })),
    html("div", { class: "track", "aria-hidden": "true" }, ...layers, html("i", { class: "cells" }),
      html("i", { class: "snapshot-mark", hidden: true }), html("span", { class: "away" })),
    html("p", { class: "strip-words" }));
}

function updateStrip(strip, node, view) {
  const within = (index) => Math.min(1, Math.max(0, (index - view.from) / (view.to - view.from)));
  const share = (index) => `${(within(index) * 100).toFixed(3)}%`;
  const log = node.status;
  attribute(strip, "data-role", node.role);
  text(strip.querySelector(".strip-role"), ROLE_WORDS[node.role]);
  text(strip.querySelector(".strip-words"), stripWords(node));
  const spans = log ? bounds(log, view.from) : LAYERS.map(() => [view.from, view.from]);
  strip.querySelectorAll(".layer").forEach((layer, position) => {
    const [from, to] = spans[position];
    style(layer, "left", share(from));
    style(layer, "right", `calc(100% - ${share(to)})`);
    attribute(layer, "data-none", to <= from ? "" : null);
  });
  const cells = strip.querySelector(".cells");
  shown(cells, view.to - view.from <= 100);
  style(cells, "background-size", `${100 / (view.to - view.from)}% 100%`);
  const mark = strip.querySelector(".snapshot-mark");
  shown(mark, Boolean(log) && log.snapshot_index > view.from);
  if (log) style(mark, "left", share(log.snapshot_index));
  const behind = log ? view.from - log.last_index : 0;
  text(strip.querySelector(".away"), !log ? "does not answer" : behind > 0 ? `${count(behind)} before this` : "");
}

/** Shows the log of each node as a strip. */
export function showStrips(cluster) {
  const view = windowOf(cluster);
  keyed(byId("strips"), cluster.nodes, (node) => node.name, createStrip,
    (strip, node) => updateStrip(strip, node, view));
  text(byId("log-note"), `One strip a node, on one scale: the last ${count(view.to - view.from)} places of the log, ` +
    "the newest on the right. The nodes are asked one after the other, so a strip may be a moment ahead.");
  const ticks = [0, 0.25, 0.5, 0.75].map((part) => Math.round(view.from + part * (view.to - view.from)) + 1);
  const axis = byId("strip-axis");
  keyed(axis, ticks.map((index, position) => ({ index, position })), (tick) => tick.position,
    () => html("span"), (tick, { index }) => text(tick, count(index)));
  keyed(byId("log-legend"), LAYERS, ([layer]) => layer, ([layer, name, meaning]) => html("li", {},
    html("i", { class: "swatch layer", "data-layer": layer, "aria-hidden": "true" }),
    html("span", {}, html("b", {}, name), ` – ${meaning}`)));
}

/** How long the cluster is there and what else is the same for all: the foot of the page. */
export function showFoot(cluster) {
  const age = Math.max(0, ...cluster.up.map((node) => node.status.time_ms));
  const parts = [plural(cluster.nodes.length, "node")];
  if (age > 0) parts.push(`cluster time ${span(age)} since it began`);
  parts.push("asked once a second, every five seconds while the page is hidden");
  text(byId("foot"), `${parts.join(" · ")}.`);
}
