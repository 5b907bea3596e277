// <studio-sound>: a recording as waveform and spectrogram under one playhead, with a layer for attributions.

import { bytes } from "/static/api.js";
import { el, fill, seconds } from "/static/dom.js";

const STEP = 0.5; // seconds that an arrow key moves

export class Sound extends HTMLElement {
  async open(id) {
    this.id_ = id;
    this.release();
    const [sound, picture] = await Promise.all([bytes(`/api/items/${id}/audio.wav`), bytes(`/api/items/${id}/spectrogram`)]);
    const raw = await sound.arrayBuffer();
    if (this.id_ !== id) return;
    this.rate = new DataView(raw).getUint32(24, true);
    this.samples = new Int16Array(raw, 44, Math.floor((raw.byteLength - 44) / 2));
    this.duration = this.samples.length / this.rate;
    const [bands, frames] = picture.headers.get("x-shape").split(" ").map(Number);
    this.bands = bands;
    this.frames = frames;
    this.values = new Uint8Array(await picture.arrayBuffer());
    this.address = URL.createObjectURL(new Blob([raw], { type: "audio/wav" }));
    this.audio = new Audio(this.address);
    this.audio.addEventListener("play", () => this.follow());
    for (const kind of ["pause", "seeked", "ended"]) this.audio.addEventListener(kind, () => this.moved());
    this.build();
    this.draw();
  }

  disconnectedCallback() {
    this.release();
    this.resized?.disconnect();
  }

  release() {
    this.audio?.pause();
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = null;
  }

  build() {
    this.wave = el("canvas", { class: "wave", "aria-hidden": "true" });
    this.picture = el("canvas", { class: "spectrogram", "aria-hidden": "true" });
    this.overlay = el("canvas", { class: "overlay", "aria-hidden": "true" });
    this.line = el("div", { class: "playhead", "aria-hidden": "true" });
    this.button = el("button", { class: "play", onclick: () => this.toggle() }, "Play");
    this.time = el("output", { class: "time" });
    this.slider = el("input", { type: "range", min: 0, max: this.duration, step: 0.01, value: 0, "aria-label": "Position",
      oninput: () => this.seek(Number(this.slider.value)) });
    this.stage = el("div", { class: "stage", onpointerdown: (event) => {
      const box = this.stage.getBoundingClientRect();
      this.seek(((event.clientX - box.left) / box.width) * this.duration);
    } }, this.wave, el("div", { class: "pictures" }, this.picture, this.overlay), this.line);
    fill(this, this.stage, el("div", { class: "controls" }, this.button, this.slider, this.time));
    this.resized?.disconnect();
    this.resized = new ResizeObserver(() => this.drawWave());
    this.resized.observe(this.stage);
    this.moved();
  }

  draw() {
    const { picture, bands, frames, values } = this;
    picture.width = frames;
    picture.height = bands;
    const context = picture.getContext("2d");
    const image = context.createImageData(frames, bands);
    for (let band = 0; band < bands; band++) {
      for (let frame = 0; frame < frames; frame++) {
        const at = 4 * ((bands - 1 - band) * frames + frame);
        const [red, green, blue] = COLOURS[values[band * frames + frame]];
        image.data[at] = red;
        image.data[at + 1] = green;
        image.data[at + 2] = blue;
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    this.drawWave();
  }

  drawWave() {
    const { wave, samples } = this;
    const width = Math.max(1, Math.round(wave.clientWidth * devicePixelRatio));
    const height = Math.max(1, Math.round(wave.clientHeight * devicePixelRatio));
    wave.width = width;
    wave.height = height;
    const context = wave.getContext("2d");
    context.fillStyle = getComputedStyle(this).getPropertyValue("--wave");
    const each = samples.length / width;
    for (let x = 0; x < width; x++) {
      let low = 0, high = 0;
      const end = Math.min(samples.length, Math.ceil((x + 1) * each));
      for (let at = Math.floor(x * each); at < end; at++) {
        if (samples[at] < low) low = samples[at];
        if (samples[at] > high) high = samples[at];
      }
      const top = (0.5 - high / 65536) * height, bottom = (0.5 - low / 65536) * height;
      context.fillRect(x, top, 1, Math.max(1, bottom - top));
    }
  }

  // Draw contributions over the spectrogram: orange made the word likelier, blue less likely.
  explain(found) {
    const context = this.overlay.getContext("2d");
    if (!found) {
      this.overlay.width = 1;
      return context.clearRect(0, 0, 1, 1);
    }
    const [rows, columns] = found.shape;
    const bands = found.frequencies ? this.bands : 1;
    this.overlay.width = columns;
    this.overlay.height = bands;
    const image = context.createImageData(columns, bands);
    const owner = found.frequencies ? this.rowOfBands(found.frequencies) : null;
    for (let band = 0; band < bands; band++) {
      for (let column = 0; column < columns; column++) {
        let value = 0;
        if (owner) value = found.values[owner[band] * columns + column];
        else for (let row = 0; row < rows; row++) value += found.values[row * columns + column] / rows;
        const at = 4 * ((bands - 1 - band) * columns + column);
        const [red, green, blue] = value > 0 ? [255, 128, 20] : [40, 140, 255];
        image.data[at] = red;
        image.data[at + 1] = green;
        image.data[at + 2] = blue;
        image.data[at + 3] = Math.min(225, 300 * Math.sqrt(Math.abs(value)));
      }
    }
    context.putImageData(image, 0, 0);
  }

  // The nearest row of an attribution for each mel band of the spectrogram.
  rowOfBands(frequencies) {
    const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
    const top = mel(this.rate / 2);
    return Array.from({ length: this.bands }, (_, band) => {
      const wanted = ((band + 1) / (this.bands + 1)) * top;
      let best = 0;
      frequencies.forEach((hertz, row) => {
        if (Math.abs(mel(hertz) - wanted) < Math.abs(mel(frequencies[best]) - wanted)) best = row;
      });
      return best;
    });
  }

  toggle() {
    if (this.audio.paused) this.play(this.audio.currentTime >= this.duration - 0.02 ? 0 : this.audio.currentTime);
    else this.audio.pause();
  }

  play(from, to = null) {
    this.until = to;
    this.audio.currentTime = from;
    this.audio.play();
  }

  seek(to) {
    this.until = null;
    this.audio.currentTime = Math.max(0, Math.min(this.duration, to));
    this.moved();
  }

  step(by) {
    this.seek(this.audio.currentTime + by * STEP);
  }

  follow() {
    this.moved();
    if (this.until !== null && this.audio.currentTime >= this.until) this.audio.pause();
    if (!this.audio.paused) requestAnimationFrame(() => this.follow());
  }

  moved() {
    const at = this.audio.currentTime;
    this.line.style.setProperty("--at", this.duration ? at / this.duration : 0);
    this.slider.value = at;
    this.time.textContent = `${seconds(at)} of ${seconds(this.duration)}`;
    this.button.textContent = this.audio.paused ? "Play" : "Pause";
    this.dispatchEvent(new CustomEvent("moved", { detail: at }));
  }
}

// From night blue to pale grey, brighter at every step: the hues are left to what is drawn over it.
const STOPS = [[0, [14, 18, 30]], [0.35, [38, 48, 74]], [0.6, [84, 98, 128]], [0.82, [160, 172, 194]], [1, [244, 247, 250]]];
const COLOURS = Array.from({ length: 256 }, (_, value) => {
  const share = value / 255;
  const next = STOPS.findIndex(([at]) => at >= share) || 1;
  const [low, from] = STOPS[next - 1], [high, to] = STOPS[next];
  return from.map((one, channel) => Math.round(one + ((share - low) / (high - low)) * (to[channel] - one)));
});

customElements.define("studio-sound", Sound);
