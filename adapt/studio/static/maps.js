// <studio-maps>: every layer as a map whose fields are neurons, coloured by what they do at one moment.

import { el, fill } from "/static/dom.js";

const WIDEST = 3; // standard deviations at the ends of the colours

// A header and 16-bit floats, as the studio sends them: [header, values].
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const halves = new Uint16Array(buffer, 4 + length);
  const values = new Float32Array(halves.length);
  for (let at = 0; at < halves.length; at++) values[at] = FLOATS[halves[at]];
  return [header, values];
}

const FLOATS = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, part = bits & 1023;
  if (exponent === 31) return part ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + part / 1024) : sign * 2 ** -24 * part;
});

// Blue below the reference, orange above it, dark in between: the colours that also lie over spectrograms.
const COLOURS = Uint32Array.from({ length: 256 }, (_, value) => {
  const share = (value - 127.5) / 127.5, strength = Math.abs(share) ** 0.8;
  const [red, green, blue] = [[26, 31, 46], share > 0 ? [255, 168, 76] : [92, 178, 255]]
    .reduce((low, high) => low.map((one, channel) => Math.round(one + strength * (high[channel] - one))));
  return (255 << 24) | (blue << 16) | (green << 8) | red;
});

export class Maps extends HTMLElement {
  // `models` has [header, values] by "model" and "against".
  open(models) {
    this.layers = models.model[0].layers.map((layer) => ({ ...layer, fields: layer.rows * layer.columns, model: null, against: null }));
    for (const [which, [header, values]] of Object.entries(models)) {
      let at = 0;
      for (const own of header.layers) {
        const size = own.steps * own.rows * own.columns;
        const layer = this.layers.find((one) => one.site === own.site);
        if (layer && layer.steps === own.steps) layer[which] = statistics(values.subarray(at, at + size), own.steps, layer.fields);
        at += size;
      }
    }
    this.view = { show: "model", group: "" };
    this.references = {};
    this.time = 0;
    this.drawn = 0; // how often the maps were drawn
    this.build();
  }

  build() {
    for (const layer of this.layers) {
      layer.units_at = Array.from({ length: layer.fields }, () => []);
      layer.cells.forEach((cell, unit) => layer.units_at[cell].push(unit));
      layer.canvas = el("canvas", { width: layer.columns, height: layer.rows, "aria-hidden": "true" });
      layer.context = layer.canvas.getContext("2d");
      layer.image = layer.context.createImageData(layer.columns, layer.rows);
      layer.pixels = new Uint32Array(layer.image.data.buffer);
      layer.marks = el("div", { class: "marks", "aria-hidden": "true" });
      layer.cursor = null;
      const size = `${layer.units.toLocaleString("en")} ${layer.units === 1 ? "neuron" : "neurons"}`;
      const pooled = layer.units > layer.fields ? ", pooled" : "";
      layer.map = el("div", { class: "map", tabindex: 0, role: "application", "aria-roledescription": "map",
        "aria-label": `Layer ${layer.layer}, ${size}${pooled}. Arrow keys go from neuron to neuron, Enter opens one.`,
        onclick: (event) => this.pick(layer, this.cellAt(layer, event)), onkeydown: (event) => this.key(layer, event),
        onpointermove: (event) => this.tell(layer, this.cellAt(layer, event)), onfocus: () => this.tell(layer, layer.cursor) },
      layer.canvas, layer.marks);
      layer.map.style.setProperty("--ratio", layer.columns / layer.rows);
      layer.figure = el("figure", {}, layer.map, el("figcaption", {}, el("b", {}, layer.layer), ` ${size}${pooled}`));
    }
    this.said = el("output", { class: "said", "aria-live": "polite" });
    fill(this, el("div", { class: "grid" }, this.layers.map((layer) => layer.figure)), this.said);
    this.draw();
  }

  set(view) {
    Object.assign(this.view, view);
    this.last = null;
    this.draw();
  }

  // Means by group, as the studio sends them: what activity is compared with, by model.
  refer(which, [header, values]) {
    const found = new Map();
    let at = 0;
    for (const own of header.layers) {
      const layer = this.layers.find((one) => one.site === own.site);
      const fields = layer ? layer.fields : 0;
      const groups = new Map();
      for (const group of own.groups) {
        groups.set(group, values.subarray(at, at + fields));
        at += fields;
      }
      found.set(own.site, groups);
    }
    this.references[which] = found;
  }

  groups() {
    const all = new Set();
    for (const layers of Object.values(this.references)) {
      for (const groups of layers.values()) for (const group of groups.keys()) all.add(group);
    }
    return [...all].sort();
  }

  stepAt(layer, time) {
    if (layer.times.length) {
      let step = 0;
      while (step + 1 < layer.times.length && layer.times[step + 1] <= time) step++;
      return Math.min(step, layer.steps - 1);
    }
    return Math.min(Math.max(Math.round((time - layer.start) / layer.length), 0), layer.steps - 1);
  }

  at(time) {
    this.time = time;
    const steps = this.layers.map((layer) => this.stepAt(layer, time)).join();
    if (steps === this.last) return;
    this.last = steps;
    this.draw();
  }

  draw() {
    for (const layer of this.layers) {
      const step = this.stepAt(layer, this.time);
      for (let cell = 0; cell < layer.fields; cell++) {
        if (!layer.units_at[cell].length) continue;
        const value = this.value(layer, step, cell);
        layer.pixels[cell] = COLOURS[Math.max(0, Math.min(255, Math.round(127.5 + (value / WIDEST) * 127.5)))];
      }
      layer.context.putImageData(layer.image, 0, 0);
    }
    this.drawn++;
    this.dispatchEvent(new CustomEvent("drawn"));
  }

  // How far a field is from what it is compared with, in its own standard deviations; NaN is drawn as none.
  value(layer, step, cell) {
    const { show, group } = this.view;
    const own = layer[show === "difference" ? "model" : show];
    if (!own) return 0;
    const now = own.values[step * layer.fields + cell];
    if (show === "difference") return layer.against ? (now - layer.against.values[step * layer.fields + cell]) * own.scale[cell] : 0;
    const reference = group ? this.references[show]?.get(layer.site)?.get(group) : null;
    if (group && !reference) return 0;
    return (now - (reference ?? own.mean)[cell]) * own.scale[cell];
  }

  // The activation itself, over time.
  course(layer, cell, which) {
    const own = layer[which];
    return own ? Array.from({ length: layer.steps }, (_, step) => own.values[step * layer.fields + cell]) : [];
  }

  cellAt(layer, event) {
    const box = layer.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * layer.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * layer.rows);
    if (column < 0 || row < 0 || column >= layer.columns || row >= layer.rows) return null;
    return this.nearest(layer, column, row);
  }

  // The field with a neuron that is nearest to a field: a grid may have a few fields more than the layer has neurons.
  nearest(layer, column, row) {
    let best = null, least = Infinity;
    for (let cell = 0; cell < layer.fields; cell++) {
      const away = ((cell % layer.columns) - column) ** 2 + (Math.floor(cell / layer.columns) - row) ** 2;
      if (layer.units_at[cell].length && away < least) [best, least] = [cell, away];
    }
    return best;
  }

  tell(layer, cell) {
    if (cell === null) return;
    const units = layer.units_at[cell];
    const names = units.length === 1 ? `neuron ${units[0]}` : `neurons ${units.slice(0, 3).join(", ")}${units.length > 3 ? ", …" : ""}`;
    const value = this.value(layer, this.stepAt(layer, this.time), cell);
    this.said.textContent = `${layer.layer}, ${names}: ${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(1)} standard deviations`;
  }

  pick(layer, cell) {
    if (cell === null) return;
    layer.cursor = cell;
    this.mark();
    this.tell(layer, cell);
    this.dispatchEvent(new CustomEvent("neuron", { detail: { site: layer.site, unit: layer.units_at[cell][0] } }));
  }

  key(layer, event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") {
      event.preventDefault();
      this.pick(layer, layer.cursor ?? layer.cells[0]);
    } else if (move !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      layer.cursor = this.beside(layer, layer.cursor, move);
      this.mark();
      this.tell(layer, layer.cursor);
    }
  }

  // The next field with a neuron in a direction; the same one at the edge.
  beside(layer, from, [right, down]) {
    if (from === null) return layer.cells[0];
    let column = (from % layer.columns) + right, row = Math.floor(from / layer.columns) + down;
    while (column >= 0 && row >= 0 && column < layer.columns && row < layer.rows) {
      const cell = row * layer.columns + column;
      if (layer.units_at[cell].length) return cell;
      column += right;
      row += down;
    }
    return from;
  }

  // `open` is the neuron that is shown, `chosen` a list of [site, unit].
  marked(open, chosen) {
    this.open_ = open;
    this.chosen = chosen;
    this.mark();
  }

  mark() {
    for (const layer of this.layers) {
      const marks = new Map();
      for (const [site, unit] of this.chosen ?? []) if (site === layer.site && unit < layer.cells.length) marks.set(layer.cells[unit], "chosen");
      if (layer.cursor !== null) marks.set(layer.cursor, `${marks.get(layer.cursor) ?? ""} cursor`);
      if (this.open_?.site === layer.site) marks.set(layer.cells[this.open_.unit], `${marks.get(layer.cells[this.open_.unit]) ?? ""} open`);
      fill(layer.marks, [...marks].map(([cell, kind]) => {
        const mark = el("span", { class: kind });
        mark.style.left = `${((cell % layer.columns) / layer.columns) * 100}%`;
        mark.style.top = `${(Math.floor(cell / layer.columns) / layer.rows) * 100}%`;
        mark.style.width = `${100 / layer.columns}%`;
        mark.style.height = `${100 / layer.rows}%`;
        return mark;
      }));
    }
  }
}

// The mean of each field over the steps, and one over its standard deviation; silent fields stay dark.
function statistics(values, steps, fields) {
  const mean = new Float32Array(fields), spread = new Float32Array(fields);
  for (let at = 0; at < values.length; at++) mean[at % fields] += values[at] / steps;
  for (let at = 0; at < values.length; at++) spread[at % fields] += (values[at] - mean[at % fields]) ** 2 / steps;
  const all = spread.map(Math.sqrt);
  const usual = [...all].sort((one, other) => one - other)[Math.floor(fields / 2)] || 1;
  return { values, mean, scale: all.map((one) => 1 / Math.max(one, 0.1 * usual, 1e-12)) };
}

customElements.define("studio-maps", Maps);
