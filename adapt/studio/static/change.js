// The room Change: sliders over the inside of the model; the answer is redrawn beside the unmodified one and a control.

import { act, on, post } from "/static/api.js";
import { marked, rate } from "/static/diff.js";
import { byId, el, fill, problem, typing } from "/static/dom.js";
import { shell, start } from "/static/shell.js";
import "/static/sound.js";

const NONE = { neurons: [], how: "ablate", value: 0, site: "", away: "", toward: "", strength: 0, blend: {}, patch: "", patch_site: "", saved: "", seed: 0 };
const WAIT = 60, LATER = 900; // ms without a further act: until the answer is redrawn, until the effect is measured
const STORED = "innertune.neurons";
let change = { ...NONE }, can = null, sound = null, current = null, timer = 0, later = 0, drawn = 0, known = false;
const running = new Map(); // the job of each kind that this page waits for

async function show(item, main) {
  current = item;
  readState();
  sound = item.kind === "audio" ? el("studio-sound") : null;
  const controls = el("div", { class: "controls-of-change", id: "controls" }, el("p", { class: "hint" }, "Looking inside the model …"));
  fill(main, el("div", { class: "head" }, el("h1", {}, item.name), el("button", { class: "plain", id: "show-code", onclick: showCode }, "Command line and Python")),
    sound ?? el("p", { class: "source" }, item.name),
    el("section", { class: "three", id: "three", "aria-label": "Answers", "aria-live": "polite" }, el("p", { class: "hint" }, "The model is reading …")),
    el("p", { id: "effect", class: "effect", role: "status" }), controls);
  if (sound) await sound.open(item.id);
  try {
    can = await act("/api/change/open");
    if (shell.item !== item.id) return;
    drawControls(controls);
    await redraw();
  } catch (error) {
    if (shell.item === item.id) fill(controls, problem(error));
  }
}

// ---- state ----

function readState() {
  const asked = new URLSearchParams(location.search).get("change");
  if (asked) {
    try {
      change = { ...NONE, ...JSON.parse(asked) };
    } catch {
      change = { ...NONE };
    }
  } else if (!known) change = { ...NONE, neurons: storedNeurons() };
  known = true;
}

function storedNeurons() {
  try {
    const found = JSON.parse(localStorage.getItem(STORED) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => Array.isArray(one) && typeof one[0] === "string" && Number.isInteger(one[1])) : [];
  } catch {
    return [];
  }
}

function writeState() {
  const short = Object.fromEntries(Object.entries(change).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(NONE[name])));
  const url = new URL(location);
  const text = JSON.stringify(short);
  if (text === "{}" || text.length > 4000) url.searchParams.delete("change");
  else url.searchParams.set("change", text);
  history.replaceState(null, "", url);
}

function set(values) {
  change = { ...change, ...values };
  writeState();
  clearTimeout(timer);
  timer = setTimeout(redraw, WAIT);
}

// ---- the answers ----

// Run an act of one kind; one that is still under way is cancelled, and its result is dropped.
async function latest(kind, path, body, told) {
  const before = running.get(kind);
  const own = {};
  running.set(kind, own);
  if (before?.number) post(`/api/jobs/${before.number}/cancel`).catch(() => {});
  try {
    const found = await act(path, body, told, (number) => {
      own.number = number;
      if (running.get(kind) !== own) post(`/api/jobs/${number}/cancel`).catch(() => {});
    });
    return running.get(kind) === own ? found : null;
  } catch (error) {
    if (running.get(kind) !== own) return null;
    throw error;
  } finally {
    if (running.get(kind) === own) running.delete(kind);
  }
}

async function redraw() {
  clearTimeout(later);
  const place = byId("three"), item = current, began = performance.now();
  if (!place) return;
  const effect = running.get("effect");
  if (effect?.number) post(`/api/jobs/${effect.number}/cancel`).catch(() => {});
  running.delete("effect");
  place.setAttribute("aria-busy", "true");
  try {
    const asked = change;
    // The changed answer is shown before the control is known.
    const early = (job) => job.news?.changed && asked === change && current === item && drawAnswers(place, job.news);
    const found = await latest("answer", `/api/items/${item.id}/change`, { change }, early);
    if (!found || current !== item) return;
    drawAnswers(place, found);
    place.dataset.took = Math.round(performance.now() - began);
    place.dataset.drawn = ++drawn;
    fill(byId("effect"));
    if (found.control) later = setTimeout(measure, LATER);
  } catch (error) {
    if (current === item) fill(place, problem(error));
  }
  place.removeAttribute("aria-busy");
}

function drawAnswers(place, found) {
  const one = (id, title, answer, note) => el("section", { class: "answer", id }, el("h2", {}, title),
    answer.text ? marked(answer.aligned) : el("p", { class: "hint" }, "The model wrote nothing."),
    el("small", {}, note, answer.errors === null ? "" : ` ${answer.errors} ${answer.errors === 1 ? "error" : "errors"} against the reference.`));
  const count = (answer) => (answer.changed === 0 ? "As the unmodified answer." : `${answer.changed} ${answer.changed === 1 ? "word differs" : "words differ"}.`);
  fill(place, one("answer-unmodified", "Unmodified", found.unmodified, "Without corrections."),
    one("answer-changed", "Changed", found.changed, found.changes ? count(found.changed) : "Nothing is changed yet."),
    found.control ? one("answer-control", `Random control (seed ${found.seed})`, found.control,
      found.same ? "One factor for all layers has no other order, so this is the change itself." : count(found.control)) : null);
}

async function measure() {
  const place = byId("effect"), item = current;
  fill(place, "Measuring on protected examples …");
  try {
    const found = await latest("effect", `/api/items/${item.id}/change/effect`, { change });
    if (!found || current !== item) return;
    const errors = found.before === null ? "" : ` ${found.metric} there: ${rate(found.before, found.percent)} before, ${rate(found.after, found.percent)} after.`;
    fill(place, `On ${found.examples} ${found.set}, ${found.changed} of ${found.words} words change.${errors}`);
  } catch (error) {
    if (current === item) fill(place, problem(error));
  }
}

// ---- the controls ----

function drawControls(place) {
  fill(place, neurons(), steering(), blending(), patching(), control(), saving());
}

const group = (title, ...children) => el("fieldset", {}, el("legend", {}, title), children);

function select(label, options, value, chosen) {
  const field = el("select", { onchange: (event) => chosen(event.target.value) }, options.map(([key, text]) => {
    const option = el("option", { value: key }, text);
    option.selected = key === value;
    return option;
  }));
  return el("label", { class: "field" }, el("span", {}, label), field);
}

function slider(label, low, high, step, value, moved) {
  const shown = el("output", {}, Number(value).toFixed(2));
  const field = el("input", { type: "range", min: low, max: high, step, value, "aria-label": label, oninput: () => {
    shown.textContent = Number(field.value).toFixed(2);
    moved(Number(field.value));
  } });
  return el("label", { class: "slide" }, el("span", {}, label), field, shown);
}

const siteOptions = (names) => [["", "choose a site"], ...names.map((name) => [name, name])];

function neurons() {
  const chosen = el("ul", { class: "chips", "aria-label": "Chosen neurons" });
  const message = el("div", { "aria-live": "polite" });
  const keep = (list) => {
    localStorage.setItem(STORED, JSON.stringify(list));
    set({ neurons: list });
    draw();
  };
  const draw = () => fill(chosen, change.neurons.slice(0, 60).map(([site, unit]) => el("li", {}, el("button", { title: `Take ${site} ${unit} out of the set`,
    "aria-label": `Take ${site} ${unit} out`, onclick: () => keep(change.neurons.filter(([name, number]) => name !== site || number !== unit)) }, `${site.split(".").slice(-2).join(".").replace(/^.*model\./, "")} ${unit} ×`))),
    change.neurons.length > 60 ? el("li", { class: "hint" }, `and ${change.neurons.length - 60} more`) : null,
    change.neurons.length ? null : el("li", { class: "hint" }, "None yet: type some, or choose them in the room Inside."));
  let site = can.sites[0]?.name ?? "";
  const units = el("input", { type: "text", id: "units", placeholder: "3, 8-12", "aria-label": "Units, such as 3, 8-12" });
  const add = () => {
    try {
      const found = parse(units.value, can.sites.find((one) => one.name === site).units).map((unit) => [site, unit]);
      const old = new Set(change.neurons.map(String));
      keep([...change.neurons, ...found.filter((one) => !old.has(String(one)))]);
      units.value = "";
      fill(message);
    } catch (error) {
      fill(message, problem(error));
    }
  };
  units.addEventListener("keydown", (event) => event.key === "Enter" && add());
  draw();
  return group("Neurons",
    el("div", { class: "line" }, select("Site", can.sites.map((one) => [one.name, `${one.name} (${one.units})`]), site, (value) => { site = value; }), units,
      el("button", { onclick: add }, "Add"), el("button", { class: "plain", onclick: () => keep([]) }, "Clear")),
    message, chosen,
    select("What is done", [["ablate", "ablate (set to 0)"], ["scale", "multiply by"], ["set", "set to"], ["at least", "at least"], ["at most", "at most"]], change.how, (value) => {
      set({ how: value });
    }),
    slider("Value", -3, 3, 0.05, change.value, (value) => set({ value })));
}

function parse(text, units) {
  const found = new Set();
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    const first = Number(match?.[1]), last = Number(match?.[2] ?? match?.[1]);
    if (!match || last >= units || first > last) throw new Error(`“${part}” is no unit: give numbers from 0 to ${units - 1}, or ranges such as 3-8.`);
    for (let unit = first; unit <= last; unit++) found.add(unit);
  }
  if (!found.size) throw new Error("Give the numbers of units, such as 3, 8-12.");
  return [...found];
}

function steering() {
  const groups = Object.entries(can.groups).map(([name, count]) => [name, `${name} (${count})`]);
  return group("Steering vector: from one group's mean to another's",
    select("Site", siteOptions(can.sites.map((one) => one.name)), change.site, (value) => set({ site: value })),
    el("div", { class: "line" }, select("From", [["", "choose a group"], ...groups], change.away, (value) => set({ away: value })),
      select("To", [["", "choose a group"], ...groups], change.toward, (value) => set({ toward: value }))),
    slider("Strength", -3, 3, 0.05, change.strength, (value) => set({ strength: value })));
}

function blending() {
  if (!can.layers.length) return group("Blend with the other model", el("p", { class: "hint" }, can.no_blend));
  const list = el("div", { class: "layers" });
  const factor = (layer) => change.blend[layer] ?? 1;
  const draw = () => fill(list, can.layers.map((layer) => slider(layer, 0, 1, 0.01, factor(layer), (value) => set({ blend: { ...change.blend, [layer]: value } }))));
  draw();
  const factors = can.layers.map(factor);
  const mean = factors.reduce((sum, value) => sum + value, 0) / factors.length;
  return group(`Blend: 0 is ${shell.state.against.name}, 1 is ${shell.state.model.name}`,
    slider("All layers", 0, 1, 0.01, mean, (value) => {
      set({ blend: value === 1 ? {} : Object.fromEntries(can.layers.map((layer) => [layer, value])) });
      draw();
    }), el("details", {}, el("summary", {}, "A factor for each layer"), list));
}

function patching() {
  const others = shell.state.items.filter((item) => item.id !== current.id).slice(0, 500)
    .map((item) => [item.id, (item.kind === "text" ? item.name : `${item.name}: ${item.reference || item.answers.model?.text || ""}`).slice(0, 70)]);
  return group(current.kind === "audio" ? "Patch from a second recording, aligned by time" : "Patch from a second sentence, by position",
    select("Example", [["", "none"], ...others], change.patch, (value) => set({ patch: value })),
    select("Site", siteOptions(can.patchable), change.patch_site, (value) => set({ patch_site: value })));
}

function control() {
  const seed = el("input", { type: "number", min: 0, max: 2147483647, step: 1, value: change.seed, id: "seed",
    oninput: () => Number.isInteger(seed.valueAsNumber) && seed.valueAsNumber >= 0 && set({ seed: seed.valueAsNumber }) });
  return group("Random control", el("p", { class: "hint" }, "As many random neurons of the same sites, a random vector of the same length, the same factors on other layers, the patch's own steps in random order."),
    el("label", { class: "field" }, el("span", {}, "Seed"), seed),
    el("button", { onclick: () => { change = { ...NONE, seed: change.seed }; localStorage.setItem(STORED, "[]"); set({}); drawControls(byId("controls")); } }, "Change nothing"));
}

function saving() {
  const name = el("input", { type: "text", id: "save-name", maxlength: 60, placeholder: "a name", "aria-label": "Name of the saved change" });
  const message = el("div", { "aria-live": "polite" });
  const list = el("ul", { class: "saved" });
  const draw = () => fill(list, can.saved.filter((one) => one.name !== "draft").map((one) => el("li", {}, el("b", {}, one.name), ` ${[...one.operations, one.model ? "weights" : null].filter(Boolean).join(", ")} `,
    one.applies ? el("button", { "aria-pressed": change.saved === one.name ? "true" : "false", onclick: () => { set({ saved: change.saved === one.name ? "" : one.name }); draw(); } },
      change.saved === one.name ? "Applied" : "Apply") : el("small", {}, one.model ? "a model of its own: open it with model.pretrained=" : "made for another model"))));
  const send = async (fold) => {
    fill(message, el("p", { class: "hint" }, "Writing …"));
    try {
      const found = await act(`/api/items/${current.id}/change/save`, { change, name: name.value, fold });
      can.saved = found.saved;
      draw();
      fill(message, el("p", {}, `Saved as ${found.name} in ${can.folder}.`), el("pre", { tabindex: 0 }, found.code.command));
    } catch (error) {
      fill(message, problem(error));
    }
  };
  draw();
  return group("Save", el("div", { class: "line" }, name, el("button", { class: "main", onclick: () => send(false) }, "Save"),
    el("button", { onclick: () => send(true) }, "Fold into the weights")), message, list);
}

async function showCode() {
  try {
    const found = await act(`/api/items/${current.id}/change/code`, { change });
    byId("code-command").textContent = found.command;
    byId("code-python").textContent = found.python;
    byId("code").showModal();
  } catch (error) {
    byId("three").append(problem(error));
  }
}

on("items", async () => {
  if (can) can = { ...can, ...(await act("/api/change/open")) };
});
document.addEventListener("keydown", (event) => {
  if (typing(event) || event.key !== " " || !sound || event.target.closest("button, summary")) return;
  event.preventDefault();
  sound.toggle();
});

start(show);
