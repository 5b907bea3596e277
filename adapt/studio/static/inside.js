// The room Inside: every layer as a map that moves with the sound, and the neurons in it.

import { act, bytes } from "/static/api.js";
import { byId, el, fill, problem, typing } from "/static/dom.js";
import { around, choose as put, chosen, clear, isChosen, moments, responses, weights } from "/static/neuron.js";
import { answered, choose, codeButton, shell, start } from "/static/shell.js";
import { unpack } from "/static/maps.js";
import "/static/sound.js";
import "/static/steps.js";
import { mark, wordButtons } from "/static/words.js";

const PROFILE = "?"; // the choice that profiles the neurons, so that there are groups to choose from

let room = null; // what is shown now: the example, its player and its maps

async function show(item, main) {
  const asked = new URLSearchParams(location.search);
  const audio = item.kind === "audio";
  const player = el(audio ? "studio-sound" : "studio-steps");
  const words = el("div", { class: "answer" });
  const place = el("div", { class: "inside" }, el("p", { class: "hint" }, "The model is reading …"));
  fill(main, el("div", { class: "head" }, el("h1", {}, item.name), codeButton(item)), player, words, place);
  for (const key of Object.keys(pending)) delete pending[key]; // which belong to the example before
  const own = { item, audio, player, main: place, neuron: null, kept: asked.has("neuron") ? null : room?.neuron };
  room = own;
  if (audio) await player.open(item.id);
  try {
    const answer = item.answers.model ?? (item.answers.model = await answered(item.id));
    const [models, studied] = await read(item);
    if (room !== own) return;
    if (audio) {
      const list = wordButtons(answer, (number, word) => word.start != null && player.play(Math.max(0, word.start - 0.05), word.end + 0.05));
      fill(words, list);
      player.addEventListener("moved", (event) => mark(list, event.detail, answer));
    } else player.open(models.model[0]);
    await build(own, models, studied, asked);
  } catch (error) {
    fill(place, problem(error), el("button", { onclick: () => show(item, main) }, "Try again"));
  }
}

// The activity of the models, and whether the neurons of the first are profiled.
async function read(item) {
  const models = {};
  let studied = false;
  for (const which of shell.state.against ? ["model", "against"] : ["model"]) {
    const done = await act(`/api/items/${item.id}/activity`, { which });
    if (which === "model") studied = done.studied;
    models[which] = unpack(await (await bytes(`/api/items/${item.id}/activity/${which}`)).arrayBuffer());
  }
  return [models, studied];
}

async function build(own, models, studied, asked) {
  const header = models.model[0];
  const maps = el("studio-maps");
  own.maps = maps;
  own.frame = Math.min(...header.layers.map((layer) => (layer.kind === "seconds" ? layer.length : 1)));
  own.start = Math.min(...header.layers.map((layer) => layer.start));
  own.panel = el("section", { class: "neuron", "aria-live": "polite", "aria-label": "Neuron" });
  own.set = el("section", { class: "chosen", "aria-label": "Selected neurons" });
  maps.open(models);
  const cut = header.shortened ? el("p", { class: "hint" }, `These are the first ${Math.round(header.seconds)} s of the recording.`) : null;
  fill(own.main, controls(own, asked), cut, el("div", { class: "two" }, maps, el("div", { class: "side-by" }, own.panel, own.set)));
  own.player.addEventListener("moved", (event) => {
    maps.at(event.detail);
    drawCourse(own, event.detail);
    if (!own.audio || own.player.audio.paused) remember({ t: event.detail ? event.detail.toFixed(2) : null }, 200);
  });
  maps.addEventListener("neuron", (event) => neuron(own, event.detail));
  drawSet(own);
  if (asked.get("t")) own.player.seek(Number(asked.get("t")) || 0);
  if (studied) await refer(own);
  const group = asked.get("of");
  if (group && own.maps.groups().includes(group)) byId("group").value = group;
  apply(own);
  const layer = header.layers.find((one) => one.layer === asked.get("layer"));
  const unit = Number(asked.get("neuron"));
  if (layer && asked.has("neuron") && unit >= 0 && unit < layer.units) neuron(own, { site: layer.site, unit });
  else if (own.kept && header.layers.some((one) => one.site === own.kept.site)) neuron(own, own.kept); // as on the example before
  else fill(own.panel, el("p", { class: "hint" }, "Click a neuron: what it responds to, when it is most active, and how its weights differ."));
}

// ---- what is shown ----

function controls(own, asked) {
  const option = (value, text, now) => {
    const made = el("option", { value }, text);
    made.selected = value === now;
    return made;
  };
  const choice = (id, label, options, now) => el("label", {}, el("span", {}, label), el("select", { id, onchange: () => apply(own) },
    options.map(([value, text]) => option(value, text, now))));
  const against = shell.state.against;
  const shows = [["model", against ? shell.state.model.name : "activity"],
    ...(against ? [["against", against.name], ["difference", `difference of ${shell.state.model.name} and ${against.name}`]] : [])];
  const speeds = [["1", "as spoken"], ["0.5", "half"], ["0.25", "a quarter"], ["0.1", "a tenth"]];
  return el("div", { class: "choices" },
    choice("show", "Show", shows, asked.get("show") ?? "model"),
    choice("group", "Compared with", [["", "its mean here"], [PROFILE, "a letter, phoneme or token …"]], ""),
    choice("speed", "Speed", speeds, "1"),
    el("span", { class: "frames" }, el("button", { onclick: () => frame(own, -1), "aria-label": "One frame back" }, "◀ frame"),
      el("button", { onclick: () => frame(own, 1), "aria-label": "One frame on" }, "frame ▶")),
    el("span", { class: "legend", role: "img", "aria-label": "Colours: blue is 3 standard deviations below, orange 3 above" },
      el("span", {}, "−3"), el("span", { class: "ramp" }), el("span", {}, "+3 sd")));
}

function apply(own) {
  if (byId("group").value === PROFILE) return profile(own);
  const show = byId("show").value, group = byId("group").value, speed = Number(byId("speed").value);
  byId("group").disabled = show === "difference";
  own.maps.set({ show, group: show === "difference" ? "" : group });
  if (own.audio) own.player.audio.playbackRate = speed;
  else own.player.rate = speed;
  remember({ show: show === "model" ? null : show, of: group || null });
  if (own.neuron) drawCourse(own);
  if (group && show !== "difference" && !own.maps.references[show]) profile(own, show);
}

async function profile(own, which = byId("show").value === "against" ? "against" : "model") {
  const select = byId("group");
  if (select.value === PROFILE) select.value = "";
  select.disabled = true;
  try {
    await study(own, which);
  } catch (error) {
    fill(own.panel, problem(error));
  }
  select.disabled = byId("show").value === "difference";
  if (room === own) select.focus();
}

const now = (own) => (own.audio ? own.player.audio.currentTime : own.player.now);

function frame(own, by) {
  if (own.audio) {
    own.player.audio.pause();
    const step = Math.round((now(own) - own.start) / own.frame) + by;
    own.player.seek(own.start + step * own.frame);
  } else own.player.seek(now(own) + by);
}

let later = null; // browsers refuse to change the address too often
const pending = {};

function remember(values, wait = 0) {
  Object.assign(pending, values);
  clearTimeout(later);
  later = setTimeout(() => {
    const url = new URL(location);
    for (const [key, value] of Object.entries(pending)) {
      if (value === null || value === undefined) url.searchParams.delete(key);
      else url.searchParams.set(key, value);
      delete pending[key];
    }
    if (url.href !== location.href) history.replaceState(null, "", url);
  }, wait);
}

// ---- profiles ----

async function study(own, which) {
  const done = await act("/api/neurons/study", { which });
  if (room !== own) return done;
  if (which === "model") { // the maps are laid out by the profiles now
    const [models] = await read(own.item);
    const { view, time } = own.maps;
    own.maps.open(models);
    own.maps.time = time;
    own.maps.set(view);
  }
  await refer(own, which);
  return done;
}

async function refer(own, which = "model") {
  own.maps.refer(which, unpack(await (await bytes(`/api/neurons/profiles/${which}`)).arrayBuffer()));
  const select = byId("group"), before = select.value, groups = own.maps.groups();
  fill(select, el("option", { value: "" }, "its mean here"),
    groups.map((group) => el("option", { value: group }, `${group.trim() || "space"} on average`)));
  select.value = groups.includes(before) ? before : "";
  own.maps.set({});
}

// ---- a neuron ----

async function neuron(own, { site, unit }) {
  const layer = own.maps.layers.find((one) => one.site === site);
  own.neuron = { site, unit };
  own.maps.marked(own.neuron, chosen());
  remember({ layer: layer.layer, neuron: unit });
  const body = el("div", {}, el("p", { class: "hint" }, "Asking the model …"));
  const toggle = el("button", { "aria-pressed": String(isChosen(site, unit)), onclick: () => {
    put(site, unit, !isChosen(site, unit));
    drawSet(own);
  } });
  own.toggle = toggle;
  const beside = layer.units_at[layer.cells[unit]].filter((one) => one !== unit);
  const course = el("canvas", { class: "course", role: "img", "aria-label": "Its activity over time" });
  own.course = course;
  fill(own.panel, el("h2", {}, `${layer.layer}, neuron ${unit}`), el("p", {}, toggle),
    beside.length ? el("p", { class: "hint" }, "In the same field: ", beside.map((one) => el("button", { class: "plain", onclick: () => neuron(own, { site, unit: one }) }, one))) : null,
    course, body);
  drawSet(own);
  drawCourse(own);
  const which = byId("show").value === "against" ? "against" : "model";
  const asked = { which, site, unit };
  const current = () => room === own && own.neuron.site === site && own.neuron.unit === unit;
  try {
    let found = await act("/api/neurons/show", asked);
    if (!current()) return;
    drawNeuron(own, body, found);
    if (found.moments) return;
    body.append(el("p", { class: "hint" }, "Profiling all neurons over the examples …"));
    await study(own, which);
    if (!current()) return;
    own.maps.marked(own.neuron, chosen());
    found = await act("/api/neurons/show", asked);
    if (current()) drawNeuron(own, body, found);
  } catch (error) {
    body.querySelector(".hint")?.remove();
    if (current()) body.append(problem(error), el("button", { onclick: () => neuron(own, { site, unit }) }, "Profile the neurons"));
  }
}

function drawNeuron(own, body, found) {
  const { model, against } = shell.state;
  const here = (moment) => {
    if (!room.audio) room.player.seek(moment.start);
    else if (moment.token) room.player.seek(room.maps.layers.find((one) => one.site === found.site).times[moment.step] ?? 0);
    else room.player.play(...around(moment));
  };
  const there = (moment) => choose(moment.id).then(() => room.maps && room.item.id === moment.id && here(moment));
  fill(body, weights(found.change, against ? `${against.name} and ${model.name}` : ""), responses(found),
    moments(found, own.audio, own.item, here, there));
}

// The activity of the neuron over the whole recording, with the playhead.
function drawCourse(own, time = now(own)) {
  const { course, neuron: open } = own;
  if (!course?.isConnected || !open) return;
  const layer = own.maps.layers.find((one) => one.site === open.site);
  const which = byId("show").value === "against" ? "against" : "model";
  const values = own.maps.course(layer, layer.cells[open.unit], which);
  const width = (course.width = course.clientWidth * devicePixelRatio), height = (course.height = course.clientHeight * devicePixelRatio);
  const context = course.getContext("2d"), style = getComputedStyle(own.panel);
  const low = Math.min(...values), high = Math.max(...values);
  const x = (step) => (values.length > 1 ? (step / (values.length - 1)) * width : 0);
  context.strokeStyle = style.getPropertyValue("--wave");
  context.lineWidth = 1.5 * devicePixelRatio;
  context.beginPath();
  values.forEach((value, step) => context.lineTo(x(step), height - 2 - ((value - low) / (high - low || 1)) * (height - 4)));
  context.stroke();
  context.fillStyle = style.getPropertyValue("--accent");
  context.fillRect(x(own.maps.stepAt(layer, time)) - devicePixelRatio, 0, 2 * devicePixelRatio, height);
}

function drawSet(own) {
  const set = chosen();
  const name = (site) => own.maps.layers.find((one) => one.site === site)?.layer ?? site;
  if (own.neuron && own.toggle) {
    const on = isChosen(own.neuron.site, own.neuron.unit);
    own.toggle.setAttribute("aria-pressed", String(on));
    own.toggle.textContent = on ? "Selected ✓" : "Select this neuron";
  }
  own.maps.marked(own.neuron, set);
  fill(own.set, el("h3", {}, `Selected neurons: ${set.length}`), set.length
    ? [el("ul", {}, set.map(([site, unit]) => el("li", {},
      el("button", { class: "plain", onclick: () => own.maps.layers.some((one) => one.site === site) && neuron(own, { site, unit }) }, `${name(site)}:${unit}`),
      el("button", { class: "plain", "aria-label": `Remove ${name(site)}:${unit}`, onclick: () => { put(site, unit, false); drawSet(own); } }, "×")))),
      el("button", { onclick: () => { clear(); drawSet(own); } }, "Clear")]
    : el("p", { class: "hint" }, "Other rooms can use the neurons that you select."));
}

window.addEventListener("storage", () => room?.maps && drawSet(room));

document.addEventListener("keydown", (event) => {
  if (!room?.maps || typing(event)) return;
  const onButton = event.target.closest("button");
  if (event.key === " " && !onButton) {
    event.preventDefault();
    room.player.toggle();
  } else if (event.key === "," || event.key === ".") frame(room, event.key === "," ? -1 : 1);
  else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !onButton && !event.defaultPrevented) {
    const by = event.key === "ArrowLeft" ? -1 : 1;
    if (room.audio) room.player.step(by);
    else room.player.seek(room.player.now + by);
  } else if (event.key === "s" && room.neuron) {
    put(room.neuron.site, room.neuron.unit, !isChosen(room.neuron.site, room.neuron.unit));
    drawSet(room);
  }
});

start(show);
