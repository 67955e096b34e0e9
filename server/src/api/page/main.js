// Asks this node about the cluster once a second, and shows what it tells. Every part of the page is in a module of its
// own; this one only says when.

import { health, readCluster } from "/cluster.js";
import { attribute, byId, text } from "/dom.js";
import { clock, count } from "/format.js";
import { showLearn } from "/learn.js";
import { noteLoad, showLoad } from "/load.js";
import { showCards, showFoot, showStrips } from "/nodes.js";
import { flyVotes, showRing } from "/ring.js";
import { openFromHash, showSlow } from "/slow.js";
import { noteEvents, showStories } from "/stories.js";

const POLL_MS = 1000;
const HIDDEN_POLL_MS = 5000;
/** A node that takes longer is as good as gone; its own patience with the others is below a second. */
const ANSWER_MAX_MS = 4000;
const LEVELS = { ok: ["✓", "Well"], warn: ["!", "Degraded"], bad: ["✕", "Unavailable"], wait: ["…", "Asking"] };

const root = document.documentElement;
let self = "";
let lastTime = 0;
let timer = 0;

function complain(error) {
  root.dataset.error = String(error?.message ?? error);
}

window.addEventListener("error", (event) => complain(event.error ?? event.message));
window.addEventListener("unhandledrejection", (event) => complain(event.reason));

function showHealth({ level, sentence }, more) {
  const [mark, word] = LEVELS[level];
  attribute(byId("top"), "data-level", level);
  text(byId("health-mark"), mark);
  text(byId("health-word"), word);
  text(byId("health"), sentence);
  text(byId("health-more"), more);
  document.title = `${mark} Quorate – ${word.toLowerCase()}`;
}

function show(cluster) {
  self = cluster.self;
  text(byId("served"), self ? `told by ${self}` : "");
  const news = noteEvents(cluster);
  noteLoad(cluster);
  showHealth(health(cluster), `Committed up to entry ${count(cluster.commit)} · ${clock(cluster.time, false)}`);
  showCards(cluster);
  showStrips(cluster);
  showRing(cluster);
  flyVotes(news);
  showStories();
  showLoad();
  showSlow(cluster);
  showLearn(cluster);
  showFoot(cluster);
}

function showSilence() {
  root.dataset.stale = "1";
  const who = self || "This node";
  const since = lastTime > 0 ? ` Below is what it told at ${clock(lastTime, false)}.` : "";
  const sentence = `${who} does not answer this page any more: what the cluster does is not known here.${since}`;
  showHealth({ level: "bad", sentence }, "It is asked again every second. Each other node has this page, too.");
}

async function ask() {
  const answer = await fetch("/cluster.json", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MAX_MS) });
  if (!answer.ok) throw new Error(`It answered with status ${answer.status}`);
  return answer.json();
}

async function poll() {
  let told;
  try {
    told = await ask();
  } catch {
    showSilence();
    return;
  }
  const cluster = readCluster(told);
  delete root.dataset.stale;
  // The node tells several who look at once the same; there is nothing new in it the second time.
  if (cluster.time === lastTime && root.dataset.ready) return;
  lastTime = cluster.time;
  show(cluster);
  if (!root.dataset.ready) {
    root.dataset.ready = "1";
    openFromHash();
  }
}

async function turn() {
  clearTimeout(timer);
  try {
    await poll();
  } catch (error) {
    complain(error);
  }
  timer = setTimeout(turn, document.hidden ? HIDDEN_POLL_MS : POLL_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && root.dataset.ready) turn();
});
window.addEventListener("hashchange", openFromHash);
turn();
