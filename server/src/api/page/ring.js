// Draws the cluster: the nodes on a ring, what the leader sends to each, and votes as they fly.

import { ROLE_WORDS } from "/cluster.js";
import { attribute, byId, calm, html, keyed, svg, text } from "/dom.js";
import { count, list, verb, word } from "/format.js";
import { eventWords } from "/stories.js";

const MIDDLE_X = 280;
const REACH = { x: 200, y: 142 };
const RADIUS = 50;
/** Above and below the nodes: room for what they ask. */
const MARGIN = RADIUS + 34;
/** How long a vote is seen; what happened within a few milliseconds is shown one after the other. */
const FLIGHT_MS = 1500;
/** Who was away for long is shown the last of it. */
const STEPS_MAX = 8;
const NAME_LETTERS_MAX = 10;
const ROLES = [
  ["leader", "★", "takes writes and sends entries"],
  ["follower", "●", "keeps a copy, acknowledges, votes"],
  ["candidate", "?", "asks for votes"],
  ["unreachable", "✕", "does not answer"],
];

const layers = {};
let places = new Map();

function layer(name) {
  if (!layers[name]) {
    layers[name] = svg("g", { class: name });
    byId("ring").append(layers[name]);
  }
  return layers[name];
}

function settle(cluster) {
  const total = cluster.nodes.length;
  const reach = total === 1 ? 0 : 1;
  places = new Map(cluster.nodes.map((node, position) => {
    const angle = (position / total) * 2 * Math.PI - Math.PI / 2;
    const x = MIDDLE_X + reach * REACH.x * Math.cos(angle);
    return [node.name, { x, y: MARGIN + reach * REACH.y * (1 + Math.sin(angle)) }];
  }));
  const lowest = Math.max(MARGIN, ...[...places.values()].map((place) => place.y));
  attribute(byId("ring"), "viewBox", `0 0 ${2 * MIDDLE_X} ${Math.round(lowest + MARGIN)}`);
}

/** The line from the edge of one node to the edge of another. */
function between(from, to) {
  const [one, other] = [places.get(from), places.get(to)];
  if (!one || !other || from === to) return null;
  const length = Math.hypot(other.x - one.x, other.y - one.y);
  const [x, y] = [(other.x - one.x) / length, (other.y - one.y) / length];
  const gap = RADIUS + 7;
  return {
    x1: one.x + x * gap, y1: one.y + y * gap, x2: other.x - x * gap, y2: other.y - y * gap,
    middle: { x: (one.x + other.x) / 2 - y * 15, y: (one.y + other.y) / 2 + x * 15 + 4 },
  };
}

function shortName(name) {
  return name.length <= NAME_LETTERS_MAX ? name : `${name.slice(0, 4)}…${name.slice(-4)}`;
}

function createNode(node) {
  return svg("g", { class: "ring-node" },
    svg("title"), svg("circle", { class: "halo", r: RADIUS + 6 }), svg("circle", { class: "body", r: RADIUS }),
    svg("text", { class: "ring-name", y: -9 }, shortName(node.name)),
    svg("text", { class: "ring-role", y: 9 }), svg("text", { class: "ring-term", y: 25 }));
}

function updateNode(group, node) {
  const { x, y } = places.get(node.name);
  attribute(group, "transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  attribute(group, "data-kind", node.role);
  const mark = node.role === "leader" ? "★ " : node.role === "unreachable" ? "✕ " : "";
  text(group.querySelector("title"), `${node.name}: ${ROLE_WORDS[node.role]}`);
  text(group.querySelector(".ring-role"), `${mark}${ROLE_WORDS[node.role]}`);
  text(group.querySelector(".ring-term"), node.status ? `term ${count(node.status.term)}` : "");
}

function linkWords(node) {
  if (!node.status || (node.link && !node.link.active)) return "not heard of";
  if (node.lag === null) return "";
  return node.lag === 0 ? "in step" : `${count(node.lag)} behind`;
}

function updateLink(group, { leader, node }) {
  const line = between(leader.name, node.name);
  if (!line) return;
  const alive = Boolean(node.status) && (!node.link || node.link.active);
  attribute(group, "data-alive", alive ? "1" : null);
  for (const end of ["x1", "y1", "x2", "y2"]) {
    attribute(group.firstElementChild, end, line[end].toFixed(1));
  }
  const label = group.lastElementChild;
  attribute(label, "x", line.middle.x.toFixed(1));
  attribute(label, "y", line.middle.y.toFixed(1));
  text(label, linkWords(node));
}

function caption(cluster) {
  const { leader, majority, nodes } = cluster;
  if (nodes.length === 1) return "One node: what is on its disk is committed.";
  if (!leader) {
    return "Nobody leads. Whoever hears of no leader asks the others for their votes; " +
      `${word(majority)} of ${word(nodes.length)} elect one.`;
  }
  return `${leader.name} sends each new entry to the others. It is committed once it is on ${word(majority)} of ` +
    `${word(nodes.length)} disks, and then acknowledged to the client.`;
}

/** Draws the nodes and what is between them. */
export function showRing(cluster) {
  settle(cluster);
  const { leader } = cluster;
  const links = leader ? cluster.nodes.filter((node) => node !== leader).map((node) => ({ leader, node })) : [];
  keyed(layer("links"), links, (link) => `${link.leader.name} ${link.node.name}`,
    () => svg("g", { class: "link" }, svg("line"), svg("text", { class: "link-words" })), updateLink);
  keyed(layer("members"), cluster.nodes, (node) => node.name, createNode, updateNode);
  const roles = cluster.nodes.map((node) => `${node.name}: ${ROLE_WORDS[node.role]}`);
  text(byId("ring-label"), `The nodes as a ring. ${list(roles)}.`);
  if (!stepping) text(byId("ring-caption"), caption(cluster));
  keyed(byId("ring-legend"), ROLES, ([role]) => role, ([role, mark, meaning]) => html("li", {},
    html("span", { class: "mark", "data-kind": role, "aria-hidden": "true" }, mark),
    html("span", {}, html("b", {}, ROLE_WORDS[role]), ` – ${meaning}`)));
}

const FLIGHTS = {
  PRE_VOTE_GRANTED: ["yes", "would vote"],
  PRE_VOTE_REFUSED: ["no", "would not"],
  VOTE_GRANTED: ["yes", "vote"],
  VOTE_REFUSED: ["no", "no vote"],
};

const SHOWN = ["LEADER_GONE", "PRE_CAMPAIGN", "CAMPAIGN", "BECAME_LEADER", ...Object.keys(FLIGHTS)];

function flight(event) {
  if (event.kind === "PRE_CAMPAIGN" || event.kind === "CAMPAIGN") {
    const place = places.get(event.node);
    if (!place) return null;
    const words = event.kind === "CAMPAIGN" ? `votes for term ${count(event.term)}?` : "would you vote for me?";
    return svg("g", { class: "asking" }, svg("circle", { cx: place.x, cy: place.y, r: RADIUS + 6 }),
      svg("text", { x: place.x, y: place.y + RADIUS + 24 }, words));
  }
  const [answer, words] = FLIGHTS[event.kind] ?? [];
  const line = answer && between(event.node, event.peer);
  if (!line) return null;
  const { x1, y1, x2, y2, middle } = line;
  const dot = svg("circle", { class: "ballot", r: 7, cx: x1, cy: y1 });
  dot.style.setProperty("--fly-x", `${(x2 - x1).toFixed(1)}px`);
  dot.style.setProperty("--fly-y", `${(y2 - y1).toFixed(1)}px`);
  return svg("g", { class: "vote", "data-answer": answer }, svg("line", { x1, y1, x2, y2 }), dot,
    svg("text", { x: middle.x, y: middle.y }, words));
}

function showStep(events) {
  const drawn = events.map(flight).filter(Boolean);
  layer("flights").replaceChildren(...drawn);
  text(byId("ring-caption"), `${events.map((event) => `${event.node} ${eventWords(event)}`).join("; ")}.`);
}

let steps = [];
let stepping = 0;

function nextStep() {
  const step = steps.shift();
  stepping = step ? setTimeout(nextStep, calm() ? 2 * FLIGHT_MS : FLIGHT_MS) : 0;
  if (step) showStep(step);
  else layer("flights").replaceChildren();
}

/** Lets the votes among new events fly, from who gives them to who gets them. */
export function flyVotes(events) {
  for (const event of events.filter((event) => SHOWN.includes(event.kind))) {
    const last = steps.at(-1);
    // What all do at once is one step: two who vote for the same.
    if (last?.[0].kind === event.kind && last[0].term === event.term) last.push(event);
    else steps.push([event]);
  }
  steps = steps.slice(-STEPS_MAX);
  if (!stepping && steps.length > 0) nextStep();
}

/** Marks the nodes at which something is being done, and says what. Without nodes, everything is as before. */
export function markBusy(names, words) {
  for (const group of layer("members").children) {
    const name = [...places.keys()].find((known) => shortName(known) === group.querySelector(".ring-name").textContent);
    attribute(group, "data-busy", names.includes(name) ? "1" : null);
  }
  if (names.length > 0) text(byId("ring-caption"), `${list(names)} ${verb(names, "does", "do")} ${words}.`);
}
