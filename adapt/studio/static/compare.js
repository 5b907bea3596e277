// The room Compare: two models side by side, on one example and over all of them.

import { act } from "/static/api.js";
import { marked, rate } from "/static/diff.js";
import { byId, el, fill, problem, typing } from "/static/dom.js";
import { choose, shell, start } from "/static/shell.js";
import "/static/sound.js";

const SVG = "http://www.w3.org/2000/svg";
let sound = null, whole = null;
const results = {}; // of the front and the causes, which belong to the models and not to the example
const asked = new URLSearchParams(location.search);
const groups = { target: asked.get("target") ?? "set: data", source: asked.get("source") ?? "set: source" };

async function show(item, main) {
  if (!shell.state.against) {
    fill(main, el("h1", {}, "Compare"), el("p", { class: "hint" }, "There is one model only. Start the studio with against=, such as the base of this model, to compare the two."));
    return;
  }
  sound = item.kind === "audio" ? el("studio-sound") : null;
  const pair = el("section", { class: "pair", id: "pair", "aria-live": "polite" }, el("p", { class: "hint" }, "Both models are reading …"));
  const all = el("section", { id: "all" }), front = el("section", { id: "front" }), causes = el("section", { id: "causes" });
  fill(main, el("div", { class: "head" }, el("h1", {}, item.name), el("button", { class: "plain", onclick: () => showCode(item) }, "Command line and Python")),
    sound ?? el("p", { class: "source" }, item.name), pair, all, el("section", { id: "over" }), front, causes);
  drawAll(item);
  drawOver();
  if (sound) await sound.open(item.id);
  try {
    const found = await act(`/api/items/${item.id}/compare`);
    if (shell.item === item.id) drawPair(pair, item, found);
  } catch (error) {
    if (shell.item === item.id) fill(pair, problem(error));
  }
}

function drawPair(place, item, found) {
  const one = (id, title, answer, side) => el("section", { class: "answer", id }, el("h2", {}, title),
    answer.text ? marked(found.aligned, side) : el("p", { class: "hint" }, "The model wrote nothing."),
    answer.errors === null ? null : el("small", {}, `${answer.errors} of ${answer.reference_words} words wrong.`));
  fill(place, one("before", `Before: ${shell.state.against.name}`, found.before, "reference"), one("after", `After: ${shell.state.model.name}`, found.after, "hypothesis"),
    item.reference ? el("section", { class: "answer" }, el("h2", {}, "Reference"), el("p", { class: "diff" }, item.reference)) : null);
}

// ---- over all examples ----

function drawAll(item) {
  const place = byId("all");
  const run = async () => {
    fill(place, el("h2", {}, "All examples"), el("p", { class: "hint", role: "status" }, "Both models are reading all examples. The bar above shows how far, and cancels."));
    try {
      whole = await act("/api/compare/all");
    } catch (error) {
      fill(place, el("h2", {}, "All examples"), problem(error), el("button", { onclick: run }, "Compare all"));
      return;
    }
    if (byId("all")) drawAll(item);
  };
  if (!whole) return fill(place, el("h2", {}, "All examples"), el("button", { class: "main", id: "compare-all", onclick: run }, "Compare all"));
  const { metric, percent, interval } = whole;
  const low = rate(interval[0], percent), high = rate(interval[1], percent);
  const sure = interval[0] > 0 || interval[1] < 0 ? "" : " It includes 0: there may be no difference.";
  fill(place, el("h2", {}, `All ${whole.examples} examples with a reference`),
    el("p", { id: "totals" }, el("b", {}, `${metric} ${rate(whole.before, percent)} → ${rate(whole.after, percent)}.`),
      ` 95 % interval of the change, paired by example: ${low} to ${high}.${sure}`),
    el("div", { class: "pair" }, scatter(), el("div", {}, words("Fixed most often", whole.fixed), words("Broken most often", whole.broken))));
}

function words(title, list) {
  if (!list.length) return el("div", {}, el("h3", {}, title), el("p", { class: "hint" }, "No word."));
  return el("div", {}, el("h3", {}, title), el("div", { class: "scroll changed-words", tabindex: 0 }, el("table", {},
    el("thead", {}, el("tr", {}, ["word", "right before", "right after", "of"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, list.map((one) => el("tr", {}, el("th", { scope: "row" }, one.word, one.significant ? el("span", { title: "significant at a false discovery rate of 5 %" }, " *") : ""),
      el("td", {}, one.before), el("td", {}, one.after), el("td", {}, one.count)))))));
}

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// Axes from 0 to `most` on both sides, with a label each; `place` maps a value to the picture.
function axes(label, x, y, [lowX, highX], [lowY, highY], percent) {
  const size = 320, left = 52, bottom = 44, top = 12, right = 14;
  const atX = (value) => left + ((value - lowX) / (highX - lowX || 1)) * (size - left - right);
  const atY = (value) => size - bottom - ((value - lowY) / (highY - lowY || 1)) * (size - top - bottom);
  const picture = svg("svg", { viewBox: `0 0 ${size} ${size}`, class: "plot", role: "group", "aria-label": label });
  for (let tick = 0; tick <= 4; tick++) {
    const ofX = lowX + (tick / 4) * (highX - lowX), ofY = lowY + (tick / 4) * (highY - lowY);
    picture.append(svg("line", { class: "grid", x1: atX(ofX), x2: atX(ofX), y1: top, y2: size - bottom }), svg("line", { class: "grid", x1: left, x2: size - right, y1: atY(ofY), y2: atY(ofY) }),
      svg("text", { x: atX(ofX), y: size - bottom + 15, "text-anchor": "middle" }, number(ofX, percent.x, highX - lowX)), svg("text", { x: left - 6, y: atY(ofY) + 4, "text-anchor": "end" }, number(ofY, percent.y, highY - lowY)));
  }
  picture.append(svg("text", { x: (left + size - right) / 2, y: size - 8, "text-anchor": "middle" }, x),
    svg("text", { x: 12, y: (top + size - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(top + size - bottom) / 2})` }, y));
  return { picture, atX, atY };
}

const number = (value, percent, span) => (percent ? (100 * value).toFixed(span < 0.08 ? 1 : 0) : Number(value.toFixed(2)).toString());

function scatter() {
  const { points, metric, percent } = whole;
  const most = Math.max(0.01, ...points.flatMap((point) => [point.before, point.after]));
  const unit = percent ? `${metric}, %` : metric;
  const { picture, atX, atY } = axes("Each example by its errors before and after", `before (${unit})`, `after (${unit})`, [0, most], [0, most], { x: percent, y: percent });
  picture.append(svg("line", { class: "even", x1: atX(0), y1: atY(0), x2: atX(most), y2: atY(most) }));
  const same = new Map(); // examples with the same errors would hide each other
  for (const point of points) {
    const key = `${point.before} ${point.after}`, turn = same.get(key) ?? 0;
    same.set(key, turn + 1);
    const radius = turn ? 3 + 2.2 * Math.sqrt(turn) : 0, angle = 2.4 * turn;
    const better = (point.after < point.before) !== whole.higher;
    const kind = point.after === point.before ? "same" : better ? "better" : "worse";
    const text = `${point.name}: ${rate(point.before, percent)} before, ${rate(point.after, percent)} after`;
    const open = () => choose(point.id);
    picture.append(svg("circle", { class: `point ${kind}${point.id === shell.item ? " here" : ""}`, cx: atX(point.before) + radius * Math.cos(angle), cy: atY(point.after) + radius * Math.sin(angle), r: 5,
      tabindex: 0, role: "button", "aria-label": text, "data-id": point.id, onclick: open,
      onkeydown: (event) => { if (event.key === "Enter") open(); } }, svg("title", {}, text)));
  }
  return el("figure", {}, picture, el("figcaption", { class: "hint" }, "Below the line: better after. Click a point, or press Enter on it, to open the example."));
}

// ---- the front and the causes ----

function drawOver() {
  const names = new Set();
  for (const item of shell.state.items) {
    names.add(`set: ${item.set}`);
    for (const [key, value] of Object.entries(item.groups)) names.add(`${key}: ${value}`);
  }
  const field = (label, name) => el("label", { class: "pick" }, el("span", {}, label), el("select", { onchange: (event) => {
    groups[name] = event.target.value;
    const url = new URL(location);
    url.searchParams.set(name, groups[name]);
    history.replaceState(null, "", url);
  } }, [...names].sort().map((one) => {
    const option = el("option", { value: one }, one);
    option.selected = one === groups[name];
    return option;
  })));
  fill(byId("over"), el("h2", {}, "Between the two models"), el("p", { class: "hint" }, "These read both groups again and again, without corrections; the bar above cancels."),
    el("div", { class: "picks" }, field("Target", "target"), field("Source", "source"),
      el("button", { id: "run-front", onclick: () => over("front", drawFront) }, "Front along the blend"), el("button", { id: "run-causes", onclick: () => over("causes", drawCauses) }, "Causes by layer")));
  if (results.front) drawFront();
  if (results.causes) drawCauses();
}

async function over(what, draw) {
  fill(byId(what), el("p", { class: "hint", role: "status" }, "Measuring …"));
  try {
    results[what] = await act(`/api/compare/${what}`, groups);
    if (byId(what)) draw();
  } catch (error) {
    if (byId(what)) fill(byId(what), problem(error));
  }
}

function drawFront() {
  const { points, metric, percent, chosen, reason, summary } = results.front;
  const range = (name) => {
    const values = points.map((point) => point[name]), low = Math.min(...values), high = Math.max(...values), pad = (high - low) * 0.1 || 0.01;
    return [Math.max(0, low - pad), high + pad];
  };
  const unit = percent ? `${metric}, %` : metric;
  const { picture, atX, atY } = axes("The front along the blend", `source (${unit})`, `target (${unit})`, range("source"), range("target"), { x: percent, y: percent });
  picture.append(svg("polyline", { class: "curve", points: points.map((point) => `${atX(point.source)},${atY(point.target)}`).join(" ") }));
  points.forEach((point, number) => picture.append(svg("circle", { class: number === chosen ? "point here better" : "point same", cx: atX(point.source), cy: atY(point.target), r: number === chosen ? 7 : 4 },
    svg("title", {}, `factor ${point.factor}`))));
  fill(byId("front"), el("h2", {}, "Front along the blend"), el("p", {}, summary, " ", reason), el("div", { class: "pair" }, el("figure", {}, picture),
    el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, ["factor", "target", "source", ""].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, points.map((point, number) => el("tr", {}, el("th", { scope: "row" }, point.factor.toFixed(2)), el("td", {}, rate(point.target, percent)), el("td", {}, rate(point.source, percent)), el("td", {}, number === chosen ? "chosen" : ""))))))));
}

function drawCauses() {
  const { parts, metric, percent, ends, examples } = results.causes;
  const names = Object.keys(ends);
  const cell = ([value, low, high]) => el("td", {}, rate(value, percent), el("small", {}, ` (${rate(low, percent)} to ${rate(high, percent)})`));
  fill(byId("causes"), el("h2", {}, "Causes by layer"), el("p", {}, `${metric} if one part's old weights are put back into the model after; in brackets, the 95 % interval of the change. `,
    names.map((name) => `${name}, ${examples[name]} examples: ${rate(ends[name][0], percent)} before, ${rate(ends[name][1], percent)} after.`).join(" ")),
    el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, ["part", "weights", ...names].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, parts.map((one) => el("tr", {}, el("th", { scope: "row" }, one.part), el("td", {}, one.weights.toLocaleString("en")), names.map((name) => cell(one.reverted[name]))))))));
}

function showCode(item) {
  byId("code-command").textContent = item.code.compare.command;
  byId("code-python").textContent = item.code.compare.python;
  byId("code").showModal();
}

document.addEventListener("keydown", (event) => {
  if (typing(event) || event.key !== " " || !sound || event.target.closest("button, summary")) return;
  event.preventDefault();
  sound.toggle();
});

start(show);
