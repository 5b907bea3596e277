// The room Correct: write what was said; the model keeps it, or says why not. Undo at any time.

import { act, get, on } from "/static/api.js";
import { byId, el, fill, problem, typing } from "/static/dom.js";
import { answered, choose, codeButton, shell, start } from "/static/shell.js";
import "/static/sound.js";
import { alignment, mark, wordButtons } from "/static/words.js";

let sound = null;

async function show(item, main) {
  sound = item.kind === "audio" ? el("studio-sound") : null;
  const place = el("section", { class: "answer" }), past = el("section", { id: "corrections", class: "corrections" });
  fill(main, el("div", { class: "head" }, el("h1", {}, item.name), codeButton(item)), sound ?? el("p", { class: "source" }, item.name), place, past);
  drawCorrections();
  if (sound) await sound.open(item.id);
  fill(place, el("p", { class: "hint" }, "The model is reading …"));
  try {
    draw(place, item, await answered(item.id));
  } catch (error) {
    fill(place, problem(error));
  }
}

function draw(place, item, answer) {
  const words = wordButtons(answer, (number, word) => word.start != null && sound?.play(Math.max(0, word.start - 0.05), word.end + 0.05));
  const text = el("textarea", { id: "right", rows: 2, spellcheck: "false" });
  text.value = item.reference || answer.text;
  const outcome = el("div", { "aria-live": "polite" });
  const send = async (force) => {
    fill(outcome, el("p", { class: "hint" }, "Looking for a change inside the model that makes it write this …"));
    try {
      drawOutcome(outcome, place, item, await act(`/api/items/${item.id}/correct`, { text: text.value, force }), send);
    } catch (error) {
      fill(outcome, problem(error));
    }
  };
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send(false);
    }
  });
  fill(place, el("h2", {}, "The answer"), answer.text ? words : el("p", { class: "hint" }, "The model wrote nothing."), alignment(answer),
    el("label", { for: "right" }, shell.state.model.reads === "audio" ? "What was said" : "The right translation"), text,
    el("p", {}, el("button", { class: "main", onclick: () => send(false) }, "Correct"), " ", el("small", {}, "or Enter. ", el("kbd", {}, "e"), " edits, ", el("kbd", {}, "j"), " is the next example.")), outcome);
  sound?.addEventListener("moved", (event) => mark(words, event.detail, answer));
}

async function drawOutcome(place, answerPlace, item, outcome, send) {
  const others = outcome.checked ? el("p", {}, outcome.changed
    ? `${outcome.changed} of ${outcome.checked} protected examples have another answer now.`
    : `All ${outcome.checked} protected examples keep their answers.`) : null;
  if (outcome.number === null) {
    const why = outcome.refused ? `Refused: ${outcome.refused}` : outcome.style
      ? "The answer differs in style only (punctuation, numbers, contractions or spelling), so there is nothing to fix."
      : "This is already the model's answer.";
    fill(place, el("p", { class: outcome.refused ? "problem" : "hint" }, why),
      outcome.refused ? el("button", { onclick: () => send(true) }, "Keep it anyway, for exactly this answer") : null);
    return;
  }
  const answer = await answered(item.id);
  draw(answerPlace, item, answer);
  answerPlace.append(el("div", { class: "outcome", role: "status" },
    el("p", {}, el("b", {}, outcome.fixed ? `Correction ${outcome.number}: fixed.` : `Correction ${outcome.number} is stored, but the model does not write it yet.`),
      ` It was “${outcome.before}” and is “${outcome.after}” now.`),
    outcome.override ? el("p", {}, "It replaces exactly this answer and changes nothing inside the model.") : null, others,
    el("button", { onclick: () => undo(outcome.number) }, "Undo")));
}

async function undo(number) {
  try {
    await act(`/api/corrections/${number}/undo`);
    if (shell.item) await choose(shell.item, false);
  } catch (error) {
    byId("corrections").prepend(problem(error));
  }
}

let search = "";

async function drawCorrections() {
  const place = byId("corrections");
  if (!place) return;
  let records;
  try {
    records = await get("/api/corrections");
  } catch (error) {
    return fill(place, el("h2", {}, "Corrections"), problem(error));
  }
  const rows = el("tbody");
  const drawRows = () => fill(rows, records.filter((one) => `${one.before} ${one.text} ${one.input}`.toLowerCase().includes(search)).map((one) =>
    el("tr", {}, el("th", { scope: "row" }, one.number), el("td", { class: "text" }, one.before), el("td", { class: "text" }, one.text),
      el("td", { class: "text" }, one.input), el("td", {}, el("button", { class: "plain", "aria-label": `Undo correction ${one.number}`, onclick: () => undo(one.number) }, "Undo")))));
  drawRows();
  const field = el("input", { type: "search", "aria-label": "Search corrections", placeholder: "Search", value: search,
    oninput: (event) => { search = event.target.value.toLowerCase(); drawRows(); } });
  fill(place, el("h2", {}, `Corrections of this model (${records.length})`), records.length ? el("div", {}, field,
    el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, ["", "before", "now", "input", ""].map((name) => el("th", { scope: "col", class: "text" }, name)))), rows)))
    : el("p", { class: "hint" }, "None yet."));
}

on("corrections", drawCorrections);
document.addEventListener("keydown", (event) => {
  if (typing(event)) return;
  if (event.key === "e") {
    event.preventDefault();
    byId("right")?.focus();
  } else if (event.key === " " && sound && !event.target.closest("button")) {
    event.preventDefault();
    sound.toggle();
  }
});

start(show);
