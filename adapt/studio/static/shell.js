// What all rooms share: the list of examples, its filters, adding, the running work, and the code of what is shown.

import { act, connect, get, on, post } from "/static/api.js";
import { byId, el, fill, problem, typing } from "/static/dom.js";
import { recordButton } from "/static/record.js";

const room = document.documentElement.dataset.room;
export const shell = { state: null, item: null, details: null };
let open = () => {};
const jobs = new Map();

// Start the page. `show` draws the room for an example; it gets the details of `/api/items/ID`.
export async function start(show) {
  open = show;
  on("job", drawJob);
  on("items", refresh);
  on("lost", (lost) => document.body.classList.toggle("lost", lost));
  connect();
  window.addEventListener("popstate", () => choose(idOfPage(), false));
  document.addEventListener("keydown", keys);
  await refresh();
  drawAdd();
  await choose(idOfPage() ?? shell.state.items[0]?.id, false);
}

export async function refresh() {
  shell.state = await get("/api/state");
  const { model, against } = shell.state;
  fill(byId("model"), el("b", {}, model.name), against ? ` against ${against.name}` : "");
  for (const job of shell.state.jobs) drawJob(job);
  drawFilters();
  drawList();
}

function idOfPage() {
  const id = decodeURIComponent(location.pathname.split("/")[2] ?? "");
  return id || null;
}

export async function choose(id, remember = true) {
  const main = byId("room");
  if (!id || !shell.state.items.some((item) => item.id === id)) {
    shell.item = null;
    drawList();
    fill(main, el("p", { class: "hint" }, shell.state.items.length ? "Choose an example from the list." : empty()));
    return;
  }
  shell.item = id;
  if (remember) history.pushState(null, "", `/${room}/${id}`);
  for (const link of document.querySelectorAll("nav a[data-room]")) link.href = `/${link.dataset.room}/${id}`;
  drawList();
  try {
    const details = await get(`/api/items/${id}`);
    if (shell.item !== id) return;
    shell.details = details;
    await open(details, main);
  } catch (error) {
    fill(main, problem(error));
  }
}

const empty = () => (shell.state.model.reads === "audio" ? "Record something, or drop a recording here." : "Write a sentence to translate.");

// Let the model answer the example, and return the answer.
export async function answered(id, which = "model", told = undefined) {
  const answer = await act(`/api/items/${id}/answer`, { which }, told);
  const row = shell.state.items.find((item) => item.id === id);
  if (row) {
    const confidences = answer.words.map((word) => word.confidence ?? 1);
    row.answers[which] = { text: answer.text, errors: answer.errors, reference_words: answer.reference_words,
      confidence: confidences.length ? Math.min(...confidences) : null };
    drawList();
  }
  return answer;
}

export function codeButton(details) {
  return el("button", { class: "plain", onclick: () => {
    byId("code-command").textContent = details.code[room].command;
    byId("code-python").textContent = details.code[room].python;
    byId("code").showModal();
  } }, "Command line and Python");
}

// ---- the list ----

const filter = { group: "", errors: "", search: "" };

function drawFilters() {
  const groups = new Set();
  for (const item of shell.state.items) {
    groups.add(`set: ${item.set}`);
    for (const [key, value] of Object.entries(item.groups)) groups.add(`${key}: ${value}`);
  }
  const select = (label, name, options) => el("label", {}, el("span", {}, label), el("select", { onchange: (event) => {
    filter[name] = event.target.value;
    drawList();
  } }, options.map(([value, text]) => {
    const option = el("option", { value }, text);
    option.selected = filter[name] === value;
    return option;
  })));
  const search = el("input", { type: "search", placeholder: "Search", "aria-label": "Search texts and names",
    value: filter.search, oninput: (event) => { filter.search = event.target.value.toLowerCase(); drawList(); } });
  const choices = [["", "all"], ["errors", "with errors"], ["right", "without errors"], ["unsure", "least sure first"]];
  if (shell.state.against) choices.push(["changed", "changed between the models"]);
  fill(byId("filters"), search,
    select("Group", "group", [["", "all"], ...[...groups].sort().map((group) => [group, group])]),
    select("Show", "errors", choices),
    el("button", { class: "plain", onclick: answerAll }, "Answer all"));
}

function shown() {
  let items = shell.state.items.filter((item) => {
    const [key, value] = filter.group.split(": ");
    if (filter.group && (key === "set" ? item.set : item.groups[key]) !== value) return false;
    const now = item.answers.model, other = item.answers.against;
    if (filter.errors === "errors" && !(now?.errors > 0)) return false;
    if (filter.errors === "right" && now?.errors !== 0) return false;
    if (filter.errors === "unsure" && now?.confidence == null) return false;
    if (filter.errors === "changed" && !(now && other && now.text !== other.text)) return false;
    return !filter.search || `${item.name} ${item.reference} ${now?.text ?? ""}`.toLowerCase().includes(filter.search);
  });
  if (filter.errors === "unsure") items = [...items].sort((a, b) => a.answers.model.confidence - b.answers.model.confidence);
  return items;
}

function drawList() {
  const items = shown();
  const rows = items.slice(0, 500).map((item) => {
    const answer = item.answers.model;
    const text = answer?.text ?? item.reference ?? "";
    const errors = answer?.errors == null ? null
      : el("span", { class: answer.errors ? "errors" : "right" }, answer.errors ? `${answer.errors} of ${answer.reference_words} wrong` : "right");
    const link = el("a", { href: `/${room}/${item.id}`, "aria-current": item.id === shell.item ? "true" : null, onclick: (event) => {
      if (event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      choose(item.id);
    } }, el("b", { class: answer || item.kind === "text" ? null : "unheard" }, item.kind === "text" ? item.name : text || item.name),
      el("small", {}, item.kind === "text" ? text : item.name, errors ? " · " : "", errors, answer ? "" : " · not answered yet"));
    return el("li", {}, link);
  });
  if (items.length > 500) rows.push(el("li", { class: "hint" }, `and ${items.length - 500} more`));
  if (!items.length) rows.push(el("li", { class: "hint" }, shell.state.items.length ? "Nothing matches." : empty()));
  fill(byId("items"), rows);
}

async function answerAll() {
  try {
    await act("/api/answer-all", { which: "model" });
    if (shell.state.against) await act("/api/answer-all", { which: "against" });
    await refresh();
    if (shell.item) await choose(shell.item, false);
  } catch (error) {
    fill(byId("jobs"), problem(error));
  }
}

function keys(event) {
  if (typing(event) || (event.key !== "j" && event.key !== "k")) return;
  const items = shown();
  const place = items.findIndex((item) => item.id === shell.item) + (event.key === "j" ? 1 : -1);
  if (items[place]) choose(items[place].id);
}

// ---- adding ----

function drawAdd() {
  if (shell.state.model.reads === "text") {
    const input = el("textarea", { rows: 2, "aria-label": "A sentence to translate", placeholder: "A sentence to translate" });
    fill(byId("add"), input, el("button", { onclick: () => add(() => post("/api/items", { source: input.value }), input) }, "Add"));
    return;
  }
  const file = el("input", { type: "file", accept: "audio/*", class: "hidden", id: "file", onchange: () => {
    if (file.files[0]) add(() => post("/api/items", file.files[0]));
    file.value = "";
  } });
  fill(byId("add"), recordButton((wav) => add(() => post("/api/items", wav))), " ",
    el("label", { class: "button", for: "file" }, "Open a file"), file, el("p", { class: "hint" }, "or drop a recording anywhere"));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const dropped = event.dataTransfer?.files?.[0];
    if (dropped) add(() => post("/api/items", dropped));
  });
}

async function add(send, input) {
  const place = byId("add");
  place.querySelector(".problem")?.remove();
  try {
    const item = await send();
    if (input) input.value = "";
    await refresh();
    await choose(item.id);
  } catch (error) {
    place.append(problem(error));
  }
}

// ---- the work ----

function drawJob(job) {
  if (job.state === "waiting" || job.state === "running") jobs.set(job.number, job);
  else jobs.delete(job.number);
  const [first] = jobs.values();
  if (!first) return fill(byId("jobs"));
  const more = jobs.size > 1 ? ` (${jobs.size - 1} more waiting)` : "";
  const bar = el("progress", { max: 1, "aria-label": first.what });
  if (first.progress !== null) bar.value = first.progress;
  const step = first.news?.step ? `: ${first.news.step}` : "";
  fill(byId("jobs"), el("span", {}, `${first.what}${step}${more}`), bar,
    el("button", { class: "plain", onclick: () => post(`/api/jobs/${first.number}/cancel`) }, "Cancel"));
}
