// Reads cluster.json into a model in which every field has the type that the rest of the page expects,
// whatever arrived; and says in one sentence how the cluster is.

import { count, list, verb, word, Word } from "/format.js";

const ROLES = ["leader", "follower", "candidate", "pre_candidate", "outside"];
/** So many entries behind is out of step. */
const BEHIND_MIN = 5000;

export const ROLE_WORDS = {
  leader: "leader",
  follower: "follower",
  candidate: "candidate",
  pre_candidate: "pre-candidate",
  outside: "outside",
  unreachable: "no answer",
};

const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : 0);
const string = (value) => (typeof value === "string" ? value : "");
const array = (value) => (Array.isArray(value) ? value : []);
const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});

const NUMBERS = [
  "term", "first_index", "last_index", "durable_index", "commit_index", "applied_index", "revision", "key_count",
  "session_count", "time_ms", "snapshot_index", "snapshot_bytes", "log_bytes_since_snapshot",
];
const FLAGS = ["storage_full", "recovering", "ready", "lease_reads"];

function readStatus(raw) {
  if (raw === null || typeof raw !== "object") return null;
  const status = { role: ROLES.includes(raw.role) ? raw.role : "outside" };
  for (const name of NUMBERS) status[name] = number(raw[name]);
  for (const name of FLAGS) status[name] = raw[name] === true;
  for (const name of ["leader", "not_ready_reason", "version"]) status[name] = string(raw[name]);
  status.dropped = Object.entries(object(raw.dropped_messages))
    .map(([reason, dropped]) => ({ reason, count: number(dropped) }))
    .filter((dropped) => dropped.count > 0);
  status.peers = array(raw.peers).map(object).map((peer) => ({
    name: string(peer.name),
    match: number(peer.match_index),
    next: number(peer.next_index),
    state: string(peer.state),
    active: peer.active === true,
  }));
  return status;
}

/** A span of a trace. */
export function readSpan(raw) {
  const span = object(raw);
  return {
    id: string(span.id),
    parent: string(span.parent),
    name: string(span.name) || "(no name)",
    kind: string(span.kind),
    node: string(span.node),
    start: number(span.start_ms),
    micros: Math.max(0, number(span.duration_us)),
    failed: span.failed === true,
    attributes: Object.entries(object(span.attributes)).map(([name, value]) => [name, String(value)]),
  };
}

function readNode(raw, position) {
  const node = object(raw);
  const name = string(node.name) || `(node ${position + 1})`;
  const status = readStatus(node.status);
  return {
    name,
    error: string(node.error),
    status,
    role: status ? status.role : "unreachable",
    process: string(node.process),
    events: array(node.events).slice(-200).map(object).map((event) => ({
      number: number(event.number),
      time: number(event.time_ms),
      kind: string(event.kind) || "UNKNOWN",
      term: number(event.term),
      index: number(event.index),
      peer: string(event.peer),
      count: number(event.count),
    })),
    requests: array(node.requests).map(object).map((request) => ({
      method: string(request.method) || "(no name)",
      consistency: string(request.consistency),
      code: string(request.code) || "UNKNOWN",
      count: number(request.count),
      buckets: array(request.buckets).filter(Array.isArray)
        .map(([bound, inside]) => [typeof bound === "number" ? bound : Infinity, number(inside)])
        .sort((left, right) => left[0] - right[0]),
    })),
    slow: array(node.slow).map(object).map((slow) => ({
      id: string(slow.trace_id),
      micros: number(slow.duration_us),
      node: name,
      spans: array(slow.spans).slice(0, 500).map(readSpan),
    })).filter((slow) => slow.id !== ""),
  };
}

/** The model of what a node answered. */
export function readCluster(raw) {
  const nodes = array(object(raw).nodes).slice(0, 32).map(readNode);
  const seen = new Set();
  const distinct = nodes.filter((node) => !seen.has(node.name) && seen.add(node.name));
  const cluster = { self: string(object(raw).self), time: number(object(raw).time_ms) || Date.now(), nodes: distinct };
  cluster.majority = Math.floor(distinct.length / 2) + 1;
  cluster.up = distinct.filter((node) => node.status);
  cluster.down = distinct.filter((node) => !node.status);
  const leaders = cluster.up.filter((node) => node.role === "leader");
  cluster.leader = leaders.sort((left, right) => right.status.term - left.status.term)[0] ?? null;
  cluster.term = Math.max(0, ...cluster.up.map((node) => node.status.term));
  // A leader of an earlier term than a candidate's is still the one that is known, but no longer the newest word.
  cluster.commit = Math.max(0, ...cluster.up.map((node) => node.status.commit_index));
  for (const node of distinct) node.lag = lagOf(node, cluster.leader);
  for (const node of distinct) node.link = linkOf(node, cluster.leader);
  return cluster;
}

function linkOf(node, leader) {
  if (!leader || node === leader) return null;
  return leader.status.peers.find((peer) => peer.name === node.name) ?? null;
}

/** How many entries of the leader's log the node has not acknowledged; null if nobody can tell. */
function lagOf(node, leader) {
  if (!leader) return null;
  if (node === leader) return 0;
  const peer = linkOf(node, leader);
  if (peer && peer.match > 0) return Math.max(0, leader.status.last_index - peer.match);
  return node.status ? Math.max(0, leader.status.last_index - node.status.durable_index) : null;
}

/** Whether a node takes part and is about as far as the leader. */
export function inStep(node) {
  return Boolean(node.status) && node.status.ready && (node.lag === null || node.lag < BEHIND_MIN);
}

/** How many nodes the leader hears of, itself included; null if it does not say. */
function heard(cluster) {
  const peers = cluster.leader.status.peers;
  if (peers.length === 0 && cluster.nodes.length > 1) return null;
  return 1 + peers.filter((peer) => peer.active).length;
}

const said = (level, sentence) => ({ level, sentence });
const names = (nodes) => nodes.map((node) => node.name);

function withoutMajority(cluster) {
  const total = cluster.nodes.length;
  const up = cluster.up.length;
  const missing = cluster.majority - up;
  const answers = up === 0 ? "no node answers"
    : `only ${word(up)} of ${word(total)} ${up === 1 ? "answers" : "answer"}`;
  const from = cluster.self ? ` as ${cluster.self} sees it` : "";
  const back = missing === 1 ? "one more is back" : `${word(missing)} more are back`;
  return said("bad", `No majority: nothing can be written. ${answers[0].toUpperCase()}${answers.slice(1)}${from}; ` +
    `it takes ${word(cluster.majority)}. Writes wait until ${back}.`);
}

function withoutLeader(cluster) {
  const candidates = cluster.up.filter((node) => node.role === "candidate");
  const asking = cluster.up.filter((node) => node.role === "pre_candidate");
  const absent = cluster.down.length > 0 ? ` ${list(names(cluster.down))} ` +
    `${verb(cluster.down, "does", "do")} not answer.` : "";
  if (candidates.length > 0) {
    const term = Math.max(...candidates.map((node) => node.status.term));
    return said("bad", `No leader: ${list(names(candidates))} ${verb(candidates, "asks", "ask")} for votes in term ` +
      `${count(term)}.${absent} Writes wait for the next leader.`);
  }
  if (asking.length > 0) {
    const term = Math.max(...asking.map((node) => node.status.term)) + 1;
    return said("bad", `No leader: ${list(names(asking))} ${verb(asking, "asks", "ask")} whether ` +
      `${asking.length === 1 ? "it" : "they"} would be elected in term ${count(term)}.${absent} ` +
      "Writes wait for the next leader.");
  }
  if (cluster.up.every((node) => node.role === "outside")) {
    const who = cluster.up.length === 1 ? `${cluster.up[0].name} is` : "The nodes that answer are";
    return said("bad", `${who} not part of a cluster: not bootstrapped yet, or the disk lost what was promised.`);
  }
  return said("bad", `No leader is known in term ${count(cluster.term)}.${absent} Writes wait for an election.`);
}

function troubles(cluster) {
  const told = [];
  const ill = (test) => cluster.up.filter(test).map((node) => node.name);
  const full = ill((node) => node.status.storage_full);
  const leaderFull = cluster.leader.status.storage_full;
  if (leaderFull) told.push(`The disk of ${cluster.leader.name} is full: writes that need room are refused.`);
  const others = full.filter((name) => name !== cluster.leader.name);
  if (others.length > 0) {
    told.push(`${verb(others, "The disk", "The disks")} of ${list(others)} ${verb(others, "is", "are")} full.`);
  }
  const outside = ill((node) => node.role === "outside");
  if (outside.length > 0) told.push(`${list(outside)} ${verb(outside, "is", "are")} not part of the cluster.`);
  const recovering = ill((node) => node.role !== "outside" && node.status.recovering);
  if (recovering.length > 0) told.push(`${list(recovering)} ${verb(recovering, "recovers", "recover")} lost log.`);
  const late = ill((node) => node.role !== "outside" && !node.status.recovering && !inStep(node));
  if (late.length > 0) told.push(`${list(late)} ${verb(late, "catches", "catch")} up.`);
  return told;
}

function whoLeads(cluster) {
  return `${cluster.leader.name} leads in term ${count(cluster.leader.status.term)}`;
}

/** How the cluster is: a level (`ok`, `warn`, `bad`) and a sentence without numbers that change all the time. */
export function health(cluster) {
  const total = cluster.nodes.length;
  if (total === 0) return said("bad", "This node answers, but knows of no node.");
  const leader = cluster.leader;
  const hears = leader ? heard(cluster) ?? cluster.up.length : 0;
  if (!leader) return cluster.up.length < cluster.majority ? withoutMajority(cluster) : withoutLeader(cluster);
  if (hears < cluster.majority) {
    if (cluster.up.length < cluster.majority) return withoutMajority(cluster);
    return said("bad", `No majority: ${whoLeads(cluster)} but hears of ${word(hears)} of ${word(total)}. ` +
      "Nothing can be written until it hears of more, or another node is elected.");
  }
  const told = troubles(cluster);
  if (total === 1 && told.length === 0) {
    return said("ok", `The only node is well; ${whoLeads(cluster)}. One of one is a majority, and there is no copy.`);
  }
  if (cluster.down.length > 0) {
    const absent = names(cluster.down);
    const there = total - absent.length;
    const majority = there >= cluster.majority
      ? `${Word(there)} of ${word(total)} are a majority: writes go on`
      : `The leader still hears of a majority: writes go on`;
    const spare = hears === cluster.majority ? ", but no further node may fail" : "";
    const writes = leader.status.storage_full ? "" : ` ${majority}${spare}.`;
    const first = `${list(absent)} ${verb(absent, "does", "do")} not answer.${writes} ${whoLeads(cluster)}.`;
    return said("warn", [first, ...told].join(" "));
  }
  if (told.length > 0) return said("warn", [`${whoLeads(cluster)}.`, ...told].join(" "));
  const all = total === 2 ? "Both nodes" : `All ${word(total)} nodes`;
  return said("ok", `${all} are in step; ${whoLeads(cluster)}.`);
}
