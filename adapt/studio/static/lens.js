// Where across the layers a word was decided: a row for each layer, a column for each character or token.

import { el, percent } from "/static/dom.js";

const name = (text) => (text === "" ? "–" : text === " " || text === "|" ? "␣" : text);
const spoken = (text) => (text === "" ? "nothing" : text === " " || text === "|" ? "space" : text);

export function layersOf(lens, state, which) {
  if (!lens) return null;
  const other = which === "model" ? "against" : "model";
  return el("section", { class: "lens" }, el("h3", {}, "Layer by layer"), el("p", {}, about(lens.own)),
    el("div", { class: "tables" }, table(lens.own, lens.other ? state[which].name : null),
      lens.other ? table(lens.other, `${state[other].name}, at the same steps`) : null));
}

function about(own) {
  const fitted = own.layers.some((row) => row.fitted);
  const encoder = own.layers.at(-1).part === "decoder" && own.layers.some((row) => row.part === "encoder");
  return "What each layer would write if it were the last; “–” is nothing. The darker a field, the likelier the answer's unit there; "
    + "a frame marks the layer from which on it stays first. "
    + (encoder ? "Layers of the encoder are read by the whole decoder. " : "")
    + (fitted ? "Layers whose states the output layer cannot read have a linear readout, fitted on the model's own answers to the examples here; "
      + "in brackets, how often it is right where a character is written "
      + `(${percent(own.chance)} by always naming the most frequent one).` : "");
}

function table(own, caption) {
  const head = el("tr", {}, el("th", { scope: "col" }, "layer"), own.units.map((unit) => el("th", { scope: "col" }, name(unit))));
  const rows = [...own.layers].reverse().map((row) => {
    const right = own.agreement[row.layer];
    return el("tr", {}, el("th", { scope: "row" }, row.layer, right === undefined ? null : el("small", {}, ` (${percent(right)})`)),
      row.cells.map(([read, sure, chance], column) => {
        const decided = own.decided[column] === row.layer;
        const text = `writes ${spoken(read)} at ${percent(sure)}; ${spoken(own.units[column])} has ${percent(chance)}${decided ? "; decided here" : ""}`;
        const cell = el("td", { class: decided ? "decided" : null, title: text }, el("span", { "aria-hidden": "true" }, name(read)),
          el("span", { class: "sr" }, text));
        cell.style.setProperty("--chance", chance);
        return cell;
      }));
  });
  return el("div", { class: "scroll", tabindex: 0 }, el("table", {}, caption ? el("caption", {}, caption) : null,
    el("thead", {}, head), el("tbody", {}, rows)));
}
