// Two texts aligned word by word: changed words are marked, also for people who cannot see the colour.

import { el } from "/static/dom.js";

// `aligned` holds pairs of a word before (`reference`) and after (`hypothesis`); `side` says which of the two is shown.
export function marked(aligned, side = "hypothesis") {
  const other = side === "hypothesis" ? "reference" : "hypothesis";
  const words = aligned.map((pair) => {
    if (pair.reference === pair.hypothesis) return el("span", {}, pair[side]);
    if (!pair[side]) return el("del", { title: `“${pair[other]}” is missing here` }, el("span", { class: "sr" }, "missing: "), pair[other]);
    return el("mark", { title: pair[other] ? `instead of “${pair[other]}”` : "only here" }, pair[side]);
  });
  return el("p", { class: "diff" }, words.flatMap((word, number) => (number ? [" ", word] : [word])));
}

export const rate = (value, percent) => (percent ? `${(100 * value).toFixed(1)} %` : value.toFixed(1));
