// The room Listen: hear a recording, read the answer with its times, and ask why a word is there.

import { act } from "/static/api.js";
import { el, fill, percent, problem, typing } from "/static/dom.js";
import { layersOf } from "/static/lens.js";
import { answered, codeButton, shell, start } from "/static/shell.js";
import "/static/sound.js";
import { alignment, mark, wordButtons } from "/static/words.js";

let sound = null;

async function show(item, main) {
  const head = el("div", { class: "head" }, el("h1", {}, item.name), codeButton(item));
  const answers = el("div", { class: "answers" });
  sound = item.kind === "audio" ? el("studio-sound") : null;
  fill(main, head, sound ?? el("p", { class: "source" }, item.name), answers);
  if (sound) await sound.open(item.id);
  const models = shell.state.against ? ["model", "against"] : ["model"];
  for (const which of models) answers.append(el("section", { class: "answer", id: `answer-${which}` }));
  for (const which of models) await showAnswer(item, which);
}

async function showAnswer(item, which) {
  const place = document.getElementById(`answer-${which}`);
  fill(place, el("p", { class: "hint" }, "The model is reading …"));
  try {
    const answer = item.answers[which] ?? (item.answers[which] = await answered(item.id, which));
    if (shell.item !== item.id) return;
    draw(place, item, which, answer);
  } catch (error) {
    fill(place, problem(error), el("button", { onclick: () => showAnswer(item, which) }, "Read it again"));
  }
}

function draw(place, item, which, answer) {
  const why = el("div", { class: "why", "aria-live": "polite" });
  const chosen = (number, word) => {
    if (sound && word.start != null) sound.play(Math.max(0, word.start - 0.05), word.end + 0.05);
    const url = new URL(location);
    url.searchParams.set("word", number);
    url.searchParams.set("of", which);
    history.replaceState(null, "", url);
    explain(why, item, which, number, word);
  };
  const words = wordButtons(answer, chosen);
  const title = shell.state.against ? shell.state[which].name : "The answer";
  fill(place, el("h2", {}, title), answer.text ? words : el("p", { class: "hint" }, "The model wrote nothing."), alignment(answer), why);
  sound?.addEventListener("moved", (event) => mark(words, event.detail, answer));
  const asked = new URLSearchParams(location.search);
  const number = Number(asked.get("word"));
  if (asked.has("word") && asked.get("of") === which && answer.words[number]) explain(why, item, which, number, answer.words[number]);
}

async function explain(place, item, which, number, word) {
  document.querySelectorAll("button.word").forEach((button) => button.removeAttribute("aria-pressed"));
  document.querySelector(`#answer-${which} button.word[data-number="${number}"]`)?.setAttribute("aria-pressed", "true");
  fill(place, el("p", { class: "hint" }, `Why “${word.text}”? Asking the model …`));
  try {
    const found = await act(`/api/items/${item.id}/why`, { which, word: number });
    if (shell.item !== item.id) return;
    sound?.explain(found);
    fill(place, el("h3", {}, `Why “${found.word}”?`), sound ? overlayText(found) : bySource(found), runnersUp(found),
      layersOf(found.lens, shell.state, which));
  } catch (error) {
    fill(place, problem(error));
  }
}

const overlayText = (found) => el("p", {},
  "Over the spectrogram, ", el("b", { class: "for" }, "orange"), " made this word likelier and ",
  el("b", { class: "against" }, "blue"), ` less likely (integrated gradients). Its log-probability is ${found.score.toFixed(2)}, `,
  `and ${found.baseline.toFixed(2)} for the same timbre and loudness without any change in time.`,
  found.frequencies ? "" : " This model's features are no frequencies, so all bands are added up.");

function bySource(found) {
  const most = Math.max(...found.by_source_word.map(([, value]) => Math.abs(value)), 1e-9);
  return el("div", {}, el("p", {}, "How much each word of the source made it likelier (integrated gradients):"),
    el("ul", { class: "bars" }, found.by_source_word.map(([text, value]) => {
      const bar = el("span", { class: value >= 0 ? "bar for" : "bar against", "aria-hidden": "true" });
      bar.style.setProperty("--share", Math.abs(value) / most);
      return el("li", {}, el("span", {}, text), bar, el("small", {}, value.toFixed(2)));
    })));
}

function runnersUp(found) {
  const unit = shell.state.model.kind === "CTC" ? "character" : "token";
  const name = (text) => (text === "" ? "nothing" : text === " " || text === "|" ? "space" : text);
  return el("div", {}, el("p", {}, `What it nearly wrote, ${unit} by ${unit}:`),
    el("div", { class: "scroll", tabindex: 0 }, el("table", { class: "near" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "written"), el("th", { scope: "col" }, "probability"),
        el("th", { scope: "col" }, "instead"))),
      el("tbody", {}, found.runners_up.map((step) => el("tr", {}, el("th", { scope: "row" }, name(step.unit)),
        el("td", {}, percent(step.probability)),
        el("td", { class: "text" }, step.others.map(([text, value]) => el("span", { class: "other" }, `${name(text)} ${percent(value)}`)))))))));
}

document.addEventListener("keydown", (event) => {
  if (!sound || typing(event) || event.target.closest("button")) return;
  if (event.key === " ") {
    event.preventDefault();
    sound.toggle();
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    sound.step(event.key === "ArrowLeft" ? -1 : 1);
  }
});

start(show);
