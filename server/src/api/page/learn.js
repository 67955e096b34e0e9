// Explains Raft by what this cluster does just now.

import { byId, html, keyed, text } from "/dom.js";
import { count, list, word, Word } from "/format.js";

const leads = ({ leader }) => (leader ? `${leader.name} leads now.` : "Nobody leads now.");
const total = ({ nodes }) => word(nodes.length);

function majority(cluster) {
  const spare = cluster.nodes.length - cluster.majority;
  const may = spare === 0 ? "none of them may fail" : `${word(spare)} of them may fail`;
  return `A majority of ${total(cluster)} is ${word(cluster.majority)}, so ${may} and everything goes on. Any two ` +
    "majorities share a node: whoever is elected has asked one that has every committed entry.";
}

function log({ leader, commit }) {
  const last = leader ? leader.status.last_index : commit;
  const open = Math.max(0, last - commit);
  return "Each write is an entry in the leader’s log. The leader writes it to its own disk and sends it to the " +
    `others, who write it to theirs. Once a majority has it, it is committed: up to entry ${count(commit)} now` +
    `${open > 0 ? `, with ${count(open)} more on the way` : ""}. Only then is the client told.`;
}

const LESSONS = [
  ["Leader", (cluster) => `One of the ${total(cluster)} nodes takes all writes and puts them in an order. ` +
    `${leads(cluster)} It says so to the others several times a second.`],
  ["Term", ({ term }) => `Time is divided into terms, each with one leader at most. This is term ${count(term)}: ` +
    "there were that many attempts to elect a leader since the cluster began. A message of an older term is refused, " +
    "so a leader that was replaced without knowing can change nothing."],
  ["Vote", (cluster) => "A node that hears of no leader first asks whether it would be elected, so that one with a " +
    "bad connection disturbs nobody. Then it stands for the next term. Each node has one vote a term, writes it to " +
    "its disk before giving it, and gives it only to a node whose log is at least as far as its own. " +
    `${Word(cluster.majority)} votes are needed here.`],
  ["Log", log],
  ["Majority", majority],
  ["Any node answers", (cluster) => {
    const others = cluster.nodes.filter((node) => node !== cluster.leader).map((node) => node.name);
    return `A client may ask any node. ${others.length > 0 ? `${list(others)} pass writes on to the leader` :
      "The only node is the leader"}. To read, a node asks the leader how far its own copy must be, or asks a ` +
      "majority, and answers from its own copy: so it sees every write that was acknowledged before, also one that " +
      "it never took.";
  }],
];

/** Shows the lessons, with the numbers of now. */
export function showLearn(cluster) {
  keyed(byId("learn-text"), LESSONS, ([title]) => title,
    ([title]) => html("article", {}, html("h3", {}, title), html("p")),
    (article, [, words]) => text(article.querySelector("p"), words(cluster)));
}
