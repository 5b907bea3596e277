// The room Attack: find the quietest change of a recording that makes the model write another text.

import { act, post } from "/static/api.js";
import { byId, el, fill, percent, problem } from "/static/dom.js";
import { answered, codeButton, shell, start } from "/static/shell.js";
import "/static/sound.js";

const given = { text: "", snr: "20", mask: "", steps: "1000" }; // what was entered last, for the next example

async function show(item, main) {
  if (item.kind !== "audio") return fill(main, el("p", { class: "hint" }, "Only recordings can be attacked, and this model reads text."));
  const sound = el("studio-sound"), answer = el("p", { id: "attack-before" }, "The model is reading …");
  const live = el("div", { id: "attack-live", "aria-live": "polite" }), result = el("section", { id: "attack-result" });
  fill(main, el("div", { class: "head" }, el("h1", {}, item.name), codeButton(item)), sound, answer, form(item, live, result), live, result);
  code(item);
  await sound.open(item.id);
  try {
    const known = item.answers.model ?? (await answered(item.id));
    fill(answer, "The model writes: ", el("b", {}, known.text || "nothing"));
  } catch (error) {
    fill(answer, problem(error));
  }
}

function form(item, live, result) {
  const field = (name, label, type, more = {}) => el("label", {}, el("span", {}, label), el("input", { id: `attack-${name}`, type, value: given[name], ...more,
    oninput: (event) => { given[name] = event.target.value; code(item); } }));
  return el("form", { class: "attack-form", onsubmit: (event) => {
    event.preventDefault();
    run(item, live, result);
  } },
    field("text", "The model should write (empty: anything else)", "text", { class: "wide", autocomplete: "off", spellcheck: "false" }),
    field("snr", "At least dB below the speech", "number", { step: "any" }),
    field("mask", "At most dB above the masking threshold (empty: any)", "number", { step: "any" }),
    field("steps", "Steps", "number", { min: 1, max: 20000 }),
    el("p", {}, el("button", { class: "main" }, "Attack"), " ", el("small", {}, "To test your own model. What counts is read in 16 bits, as from a file.")));
}

// The command and the Python with what was entered.
function code(item) {
  item.plain ??= { ...item.code.attack };
  const text = given.text.trim(), quoted = `'${`text=${text}`.replaceAll("'", "'\\''")}'`;
  const number = (name, none) => (given[name].trim() === "" ? none : given[name].trim());
  item.code.attack.command = item.plain.command.replace("text=anything", () =>
    `${text ? quoted : "text=anything"} snr=${number("snr", "null")} mask=${number("mask", "null")} steps=${number("steps", "1")}`);
  const options = `${text ? JSON.stringify(text) : "None"}, snr=${number("snr", "None")}, mask=${number("mask", "None")}, steps=${number("steps", "1")}`;
  item.code.attack.python = item.plain.python.replace(")\nprint", () => `, ${options})\nprint`);
}

async function run(item, live, result) {
  const number = (name) => (given[name].trim() === "" ? null : Number(given[name]));
  const losses = [], curve = el("canvas", { class: "attack-curve", width: 600, height: 90, "aria-hidden": "true" });
  const now = el("p", {}, "Starting …"), stop = el("button", {}, "Stop and keep what is found");
  fill(result);
  fill(live, now, curve, el("p", {}, stop));
  const told = (job) => {
    stop.onclick = () => post(`/api/attacks/${job.number}/stop`).catch(() => {});
    if (!job.news) return;
    losses.push(job.news.loss);
    fill(now, `Step ${job.news.number}: loss ${job.news.loss.toFixed(2)}. It hears “${job.news.text}”. `,
      job.news.snr === null ? "No success yet." : `The quietest success so far: ${job.news.snr.toFixed(1)} dB.`);
    drawCurve(curve, losses);
  };
  try {
    const found = await act(`/api/items/${item.id}/attack`, { text: given.text, snr: number("snr"), mask: number("mask"), steps: number("steps") ?? 1 }, told);
    if (shell.item !== item.id) return;
    fill(live, curve);
    drawCurve(curve, found.losses);
    draw(result, found);
  } catch (error) {
    fill(live, problem(error));
  }
}

function drawCurve(canvas, losses) {
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const low = Math.min(...losses), high = Math.max(...losses, low + 1e-6);
  context.clearRect(0, 0, width, height);
  context.strokeStyle = getComputedStyle(canvas).color;
  context.lineWidth = 2;
  context.beginPath();
  losses.forEach((loss, place) => context.lineTo((place / Math.max(1, losses.length - 1)) * width, height - 4 - ((loss - low) / (high - low)) * (height - 8)));
  context.stroke();
}

function draw(place, found) {
  const row = (name, which, text) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, player(found.attack, which)), el("td", { class: "text" }, text));
  const mask = found.above_mask === null ? null : ` It is more than 1 dB above the allowed mask at ${percent(found.above_mask)} of times and frequencies.`;
  fill(place, el("h2", {}, found.success ? "The attack succeeded" : "No success within the budget"),
    el("p", {}, `The change is ${found.snr === null ? "nothing at all" : `${found.snr.toFixed(1)} dB below the speech`}.`, mask),
    el("div", { class: "scroll", tabindex: 0 }, el("table", { id: "attack-sounds" },
      el("thead", {}, el("tr", {}, ["", "hear", "the model writes"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, row("clean", "clean", found.before), row("attacked", "attacked", found.after), row("noise as loud (control)", "noise", found.noise),
        row("the change, ten times louder", "change", "")))),
    el("p", {}, el("a", { class: "button", href: `/api/attacks/${found.attack}/attacked.wav?save`, download: "attacked.wav" }, "Save the attacked recording")),
    found.picture.frames ? el("h3", {}, "The change") : null, found.picture.frames ? picture(found.picture) : null, layers(found.parting));
}

function player(number, which) {
  const button = el("button", { "aria-label": `Play: ${which}` }, "Play");
  const sound = new Audio(`/api/attacks/${number}/${which}.wav`);
  button.onclick = () => {
    if (!sound.paused) return sound.pause();
    sound.currentTime = 0;
    sound.play();
  };
  for (const kind of ["play", "pause", "ended"]) sound.addEventListener(kind, () => { button.textContent = sound.paused ? "Play" : "Stop"; });
  return button;
}

function picture({ bands, frames, values }) {
  const canvas = el("canvas", { class: "attack-picture", width: frames, height: bands, role: "img", "aria-label": "Spectrogram of the change" });
  const raw = atob(values), context = canvas.getContext("2d"), image = context.createImageData(frames, bands);
  for (let band = 0; band < bands; band++) {
    for (let frame = 0; frame < frames; frame++) {
      const at = 4 * ((bands - 1 - band) * frames + frame), value = raw.charCodeAt(band * frames + frame);
      image.data.set([value, Math.round(0.75 * value), Math.round(0.4 * value), 255], at);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function layers({ layers, carrier }) {
  const share = (value) => (value === null ? "" : percent(value));
  return el("div", {}, el("h3", {}, "Where clean and attacked part"),
    el("p", {}, "How far the activations of each layer move, and how much of the clean answer comes back when a tenth of its units get their clean activations. ",
      carrier ? el("span", {}, "The units of ", el("b", {}, carrier), " carry it most.") : "The attack does not raise the loss of the clean answer."),
    el("div", { class: "scroll", tabindex: 0 }, el("table", { id: "attack-layers" },
      el("thead", {}, el("tr", {}, ["layer", "moved", "by noise", "restored", "random units", "from noise"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, layers.map((one) => el("tr", { class: one.layer === carrier ? "carrier" : null }, el("th", { scope: "row" }, one.layer),
        el("td", {}, percent(one.distance)), el("td", {}, percent(one.noise_distance)), el("td", {}, share(one.restored)),
        el("td", {}, share(one.restored_random)), el("td", {}, share(one.restored_noise))))))));
}

start(show);
