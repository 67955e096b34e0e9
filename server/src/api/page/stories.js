// Tells what happened: the events of all nodes, put together to stories, one for each election.

import { byId, html, keyed, shown, text } from "/dom.js";
import { clock, count, list, verb } from "/format.js";

const EVENTS_PER_NODE_MAX = 200;
const SHOWN_FIRST = 6;
const SHOWN_MORE = 20;
/** Snapshots that are this close are one story. */
const SNAPSHOTS_WITHIN_MS = 60_000;
/** These are the end of a term: they belong to the story of the next one. */
const ENDS = ["LEADER_GONE", "QUORUM_LOST", "DISK_STALLED", "TRANSFER_STARTED", "TRANSFER_ABORTED", "PRE_VOTE_REFUSED"];
const ELECTION = ["PRE_CAMPAIGN", "CAMPAIGN", "PRE_VOTE_GRANTED", "VOTE_GRANTED", "VOTE_REFUSED", "BECAME_LEADER",
  "BECAME_FOLLOWER", ...ENDS];

/** What is known of each node's events. It stays when the node is gone: that is when one looks. */
const known = new Map();
let allowed = SHOWN_FIRST;
let begun = false;

/** Notes the events of all nodes, and returns those that are new since the last time. */
export function noteEvents(cluster) {
  const news = [];
  for (const node of cluster.nodes) {
    const before = known.get(node.name) ?? new Map();
    const after = new Map(before);
    for (const event of node.events) {
      const key = `${node.process} ${event.number}`;
      const told = { ...event, node: node.name, key: `${node.name} ${key}` };
      if (begun && !before.has(key)) news.push(told);
      after.set(key, told);
    }
    known.set(node.name, new Map([...after].slice(-EVENTS_PER_NODE_MAX)));
  }
  for (const name of known.keys()) {
    if (!cluster.nodes.some((node) => node.name === name)) known.delete(name);
  }
  begun = true;
  return news.sort((one, other) => one.time - other.time);
}

const WORDS = {
  RECOVERED: () => "has everything again that its disk had lost, and takes part in elections",
  PRE_CAMPAIGN: ({ term }) => `asks whether it would be elected in term ${count(term)}`,
  CAMPAIGN: ({ term }) => `stands for election in term ${count(term)} and votes for itself`,
  PRE_VOTE_GRANTED: ({ term, peer }) => `would vote for ${peer} in term ${count(term)}`,
  PRE_VOTE_REFUSED: ({ peer }) => `would not vote for ${peer}`,
  VOTE_GRANTED: ({ term, peer }) => `votes for ${peer} in term ${count(term)}`,
  VOTE_REFUSED: ({ peer }) => `does not vote for ${peer}`,
  BECAME_LEADER: ({ term, index }) => `leads in term ${count(term)}, with a log up to entry ${count(index)}`,
  BECAME_FOLLOWER: ({ term, peer }) => (peer ? `follows ${peer} in term ${count(term)}`
    : `is in term ${count(term)} and knows of no leader yet`),
  LEADER_GONE: ({ peer }) => `hears that the process of ${peer || "its leader"} has ended`,
  QUORUM_LOST: ({ term }) => `leads term ${count(term)} no more: it heard of no majority`,
  DISK_STALLED: ({ term }) => `leads term ${count(term)} no more: its disk stood still`,
  TRANSFER_STARTED: ({ peer }) => `hands leadership over to ${peer}`,
  TRANSFER_ABORTED: ({ peer }) => `goes on to lead: ${peer} did not take over in time`,
  TRUNCATED: ({ index }) => `drops what is behind entry ${count(index)}: the leader has something else there`,
  INSTALLED: ({ index }) => `took over a snapshot of another node, up to entry ${count(index)}`,
  SNAPSHOT_TAKEN: ({ index }) => `took a snapshot, up to entry ${count(index)}`,
};

/** What an event was, as it goes on after its node's name. */
export function eventWords(event) {
  const words = WORDS[event.kind]?.(event) ?? event.kind.toLowerCase().replaceAll("_", " ");
  return event.count > 1 ? `${words} (${count(event.count)} times)` : words;
}

const distinct = (values) => [...new Set(values)];
const of = (events, kind) => events.filter((event) => event.kind === kind);
const nodesOf = (events, kind) => distinct(of(events, kind).map((event) => event.node)).sort();

/** Why there was an election, as far as the nodes say. */
function cause(events) {
  const [gone, lost, stalled, handed] = ["LEADER_GONE", "QUORUM_LOST", "DISK_STALLED", "TRANSFER_STARTED"]
    .map((kind) => of(events, kind)[0]);
  if (handed) return `${handed.node} handed leadership over to ${handed.peer}.`;
  if (lost) return `${lost.node} led and heard of no majority, so it stepped down.`;
  if (stalled) return `${stalled.node} led and its disk stood still, so it stepped down.`;
  if (gone) return `The process of ${gone.peer || "the leader"} ended.`;
  const asking = nodesOf(events, "PRE_CAMPAIGN");
  return asking.length > 0 ? `${list(asking)} heard of no leader.` : "";
}

/** What each candidate asked, and who answered how. */
function course(events, candidate) {
  const givers = (kind) => nodesOf(events.filter((event) => event.peer === candidate), kind);
  const [would, wouldNot, votes, refusals] =
    ["PRE_VOTE_GRANTED", "PRE_VOTE_REFUSED", "VOTE_GRANTED", "VOTE_REFUSED"].map(givers);
  const told = [];
  const answers = [];
  if (would.length > 0) answers.push(`${list(would)} said yes`);
  if (wouldNot.length > 0) answers.push(`${list(wouldNot)} said no`);
  if (nodesOf(events, "PRE_CAMPAIGN").includes(candidate)) {
    told.push(`${candidate} asked whether it would be elected${answers.length > 0 ? `: ${list(answers)}` : ""}.`);
  }
  if (nodesOf(events, "CAMPAIGN").includes(candidate)) {
    const got = votes.length > 0 ? `got the votes of ${list([...votes, "itself"])}` : "voted for itself";
    const missed = refusals.length > 0 ? `, not ${verb(refusals, "that", "those")} of ${list(refusals)}` : "";
    told.push(`${told.length > 0 ? "It" : candidate} stood for election and ${got}${missed}.`);
  } else if (votes.length > 0) {
    // What the candidate itself would tell is not known: it was gone before this page was opened.
    told.push(`${list(votes)} voted for ${candidate}.`);
  }
  return told.join(" ");
}

function electionStory(term, events) {
  const leader = of(events, "BECAME_LEADER")[0];
  const votes = [...of(events, "PRE_VOTE_GRANTED"), ...of(events, "VOTE_GRANTED")].map((vote) => vote.peer);
  const candidates = distinct([...nodesOf(events, "PRE_CAMPAIGN"), ...nodesOf(events, "CAMPAIGN"), ...votes]);
  const followed = of(events, "BECAME_FOLLOWER").findLast((event) => event.peer !== "")?.peer;
  const told = [cause(events), ...candidates.map((candidate) => course(events, candidate))];
  const [first] = events;
  if (leader) {
    const took = leader.time - first.time;
    const after = took > 0 && took < 600_000 ? `, ${(took / 1000).toFixed(2)} s after the first sign` : "";
    told.push(`${leader.node} led from ${clock(leader.time)} on${after}.`);
  }
  const aborted = of(events, "TRANSFER_ABORTED")[0];
  if (aborted && !leader) told.push(`${aborted.peer} did not take over; ${aborted.node} went on.`);
  const outcome = leader ? `${leader.node} was elected` : followed ? `${followed} led`
    : candidates.length > 0 ? "nobody was elected (yet)" : aborted ? "a handover that came to nothing" : "heard of";
  return { title: `Term ${count(term)}: ${outcome}`, told: told.filter(Boolean).join(" ") };
}

function otherStory(events) {
  const [first] = events;
  const taken = of(events, "SNAPSHOT_TAKEN");
  if (taken.length === events.length) {
    const highest = Math.max(...taken.map((event) => event.index));
    const who = nodesOf(events, "SNAPSHOT_TAKEN");
    return { title: `${list(who)} took ${verb(events, "a snapshot", "snapshots")}`,
      told: `Up to entry ${count(highest)}: what is before need not be kept in the log.` };
  }
  return { title: `${first.node} ${eventWords(first)}`, told: "" };
}

function group(events) {
  const stories = [];
  const terms = new Map();
  for (const event of events) {
    if (ELECTION.includes(event.kind)) {
      const term = event.term + (ENDS.includes(event.kind) ? 1 : 0);
      if (!terms.has(term)) {
        terms.set(term, { key: `term ${term}`, term, events: [] });
        stories.push(terms.get(term));
      }
      terms.get(term).events.push(event);
      continue;
    }
    const last = stories.findLast((story) => story.term === undefined);
    const isMore = event.kind === "SNAPSHOT_TAKEN" && last?.events[0].kind === "SNAPSHOT_TAKEN" &&
      event.time - last.events[0].time < SNAPSHOTS_WITHIN_MS;
    if (isMore) last.events.push(event);
    else stories.push({ key: event.key, events: [event] });
  }
  return stories.sort((one, other) => other.events[0].time - one.events[0].time);
}

function createStory() {
  return html("li", { class: "story" }, html("p", { class: "story-time" }), html("h3"), html("p", { class: "told" }),
    html("details", {}, html("summary"), html("ol", { class: "raw" })));
}

function createEvent(event) {
  return html("li", { "data-event": event.kind }, html("time", {}, clock(event.time)), " ", html("b", {}, event.node),
    " ", html("span", {}, eventWords(event)));
}

function updateStory(item, story) {
  const { title, told } = story.term === undefined ? otherStory(story.events)
    : electionStory(story.term, story.events);
  text(item.querySelector(".story-time"), clock(story.events[0].time, false));
  text(item.querySelector("h3"), title);
  text(item.querySelector(".told"), told);
  shown(item.querySelector(".told"), told !== "");
  text(item.querySelector("summary"), story.events.length === 1 ? "1 event" : `${story.events.length} events`);
  keyed(item.querySelector(".raw"), story.events, (event) => event.key, createEvent,
    (line, event) => text(line.querySelector("span"), eventWords(event)));
}

/** Shows the stories, the newest first. */
export function showStories() {
  const events = [...known.values()].flatMap((events) => [...events.values()])
    .sort((one, other) => one.time - other.time || one.number - other.number);
  const stories = group(events);
  keyed(byId("stories"), stories.slice(0, allowed), (story) => story.key, createStory, updateStory);
  shown(byId("stories-more"), stories.length > allowed);
  text(byId("stories-empty"), stories.length > 0 ? "" : "Nothing yet, since the processes of these nodes started.");
}

byId("stories-more").addEventListener("click", () => {
  allowed += SHOWN_MORE;
  showStories();
});
