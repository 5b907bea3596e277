// A neuron: what it responds to, when it is most active, how its weights differ, and the set of chosen neurons.

import { bytes } from "/static/api.js";
import { el, percent, problem, seconds } from "/static/dom.js";

const KEY = "innertune.neurons"; // a JSON list of [site, unit], which the room Change reads too
const AROUND = 0.15; // seconds that are played before and after a moment

export function chosen() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => Array.isArray(one) && typeof one[0] === "string" && Number.isInteger(one[1])) : [];
  } catch {
    return [];
  }
}

export const isChosen = (site, unit) => chosen().some(([one, other]) => one === site && other === unit);

export function choose(site, unit, wanted) {
  const rest = chosen().filter(([one, other]) => one !== site || other !== unit);
  localStorage.setItem(KEY, JSON.stringify(wanted ? [...rest, [site, unit]] : rest));
}

export function clear() {
  localStorage.removeItem(KEY);
}

const shortNumber = (value) => (Math.abs(value) >= 0.01 && Math.abs(value) < 1000 ? value.toPrecision(3) : value.toExponential(1));

export function weights(change, names) {
  if (!change) return null;
  const whole = `${change.weights.toLocaleString("en")} weights`;
  if (change.equal) return el("p", {}, `All its ${whole} are equal, bit by bit, in ${names}.`);
  return el("p", {}, `Between ${names}, its ${whole} moved by ${shortNumber(change.distance)}`,
    change.relative === null ? "" : ` (${percent(change.relative)} of their norm)`,
    `; ${change.changed === change.weights ? "all" : change.changed.toLocaleString("en")} of them differ.`);
}

const KINDS = { letter: "letters that are written", phoneme: "phonemes", token: "tokens" };

export function responses(found) {
  if (!found.responses?.length) {
    return el("p", { class: "hint" }, found.moments ? "No profile: nothing names what is said at the steps of this layer (times of phonemes in the manifest would), or too little is said." : "");
  }
  const most = Math.max(...found.responses.map((one) => Math.abs(one.contrast)), 1e-9);
  const ends = found.responses.length > 9 ? [...found.responses.slice(0, 6), ...found.responses.slice(-3)] : found.responses;
  return el("div", {}, el("p", {}, `How it responds to ${KINDS[found.key] ?? found.key}, in standard deviations above or below the others:`),
    el("ul", { class: "bars" }, ends.map((one) => {
      const bar = el("span", { class: one.contrast >= 0 ? "bar for" : "bar against", "aria-hidden": "true" });
      bar.style.setProperty("--share", Math.abs(one.contrast) / most);
      return el("li", {}, el("span", {}, one.group.trim() || "space"), bar, el("small", {}, one.contrast.toFixed(2)));
    })));
}

// `here` plays or shows a moment of the example that is open; `there` goes to another sentence.
export function moments(found, audio, item, here, there) {
  if (!found.moments?.length) return null;
  return el("div", {}, el("h3", {}, audio ? "Its strongest moments; click to hear" : "Its strongest moments"),
    el("ol", { class: "moments" }, found.moments.map((one) => {
      const where = audio ? `${one.name}, ${one.token ? `“${one.token.trim()}”` : `at ${seconds(one.start)}`}` : `“${one.token.trim()}” in “${one.name}”`;
      return el("li", {}, el("button", { onclick: (event) => {
        event.currentTarget.classList.add("heard");
        if (one.id === item.id) here(one);
        else if (audio && !one.token) playThere(one).catch((error) => event.target.closest("li").append(problem(error)));
        else there(one);
      } }, audio && !one.token ? el("span", { "aria-hidden": "true" }, "▶ ") : null, where, el("small", {}, ` ${shortNumber(one.value)}`)));
    })));
}

export const around = (moment) => [Math.max(0, moment.start - AROUND), moment.end + AROUND];

let playing = null;
const sounds = new Map(); // the addresses of recordings that were played, the latest few

async function playThere(moment) {
  let address = sounds.get(moment.id);
  if (!address) {
    const raw = await (await bytes(`/api/items/${moment.id}/audio.wav`)).arrayBuffer();
    address = URL.createObjectURL(new Blob([raw], { type: "audio/wav" }));
    sounds.set(moment.id, address);
    if (sounds.size > 20) {
      const [oldest, old] = sounds.entries().next().value;
      URL.revokeObjectURL(old);
      sounds.delete(oldest);
    }
  }
  playing?.pause();
  playing = new Audio(address);
  const [from, to] = around(moment);
  playing.currentTime = from;
  const own = playing;
  const until = () => (own.currentTime >= to ? own.pause() : own.paused || requestAnimationFrame(until));
  await own.play();
  until();
}

