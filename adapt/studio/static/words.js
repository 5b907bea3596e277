// The words of an answer: as buttons with their times and confidence, and aligned with the reference.

import { el, percent, seconds } from "/static/dom.js";

export function wordButtons(answer, chosen) {
  const buttons = answer.words.map((word, number) => {
    const sure = word.confidence ?? null;
    const about = [word.start != null ? `from ${seconds(word.start)} to ${seconds(word.end)}` : null,
      sure !== null ? `${percent(sure)} sure` : null].filter(Boolean).join(", ");
    const button = el("button", { class: "word", "data-number": number, "aria-label": about ? `${word.text}, ${about}` : word.text,
      title: about, onclick: () => chosen(number, word) }, word.text, el("span", { class: "sure", "aria-hidden": "true" }));
    if (sure !== null) button.style.setProperty("--sure", sure);
    return el("li", {}, button);
  });
  return el("ol", { class: "words", "aria-label": "Words of the answer" }, buttons);
}

export function alignment(answer) {
  if (!answer.aligned) return null;
  const cell = (pair) => {
    if (pair.reference === pair.hypothesis) return el("td", {}, pair.hypothesis);
    if (!pair.hypothesis) return el("td", { class: "missing" }, el("span", { class: "sr" }, "missing"), "∅");
    return el("td", { class: pair.reference ? "wrong" : "extra" }, pair.hypothesis);
  };
  const errors = answer.errors === 0 ? "All words are right."
    : `${answer.errors} ${answer.errors === 1 ? "error" : "errors"} for ${answer.reference_words} words.`;
  return el("section", { class: "aligned" }, el("h3", {}, "Against the reference"), el("p", {}, errors),
    el("div", { class: "scroll", tabindex: 0 }, el("table", {},
      el("tr", {}, el("th", { scope: "row" }, "reference"), answer.aligned.map((pair) => el("td", {}, pair.reference || ""))),
      el("tr", {}, el("th", { scope: "row" }, "answer"), answer.aligned.map(cell)))));
}

export function mark(list, at, answer) {
  list?.querySelectorAll("button.word").forEach((button) => {
    const word = answer.words[Number(button.dataset.number)];
    button.classList.toggle("now", word.start != null && at >= word.start && at < word.end);
  });
}
