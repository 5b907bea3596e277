// <studio-steps>: the tokens of a source and of its translation, one position after another, in place of a sound.

import { el, fill } from "/static/dom.js";

export class Steps extends HTMLElement {
  open(header) {
    this.source = header.source;
    this.target = header.target;
    this.count = Math.max(this.source.length, this.target.length, 1);
    this.now = 0;
    this.rate = 1;
    const row = (name, tokens) => el("div", { class: "tokens" }, el("span", { class: "side" }, name),
      el("ol", {}, tokens.map((token, step) => el("li", {}, el("button", { class: "word", onclick: () => this.seek(step) }, token.trim() || "␣")))));
    this.rows = [row("source", this.source), row("written", this.target)];
    this.button = el("button", { class: "play", onclick: () => this.toggle() }, "Play");
    this.slider = el("input", { type: "range", min: 0, max: this.count - 1, step: 1, value: 0, "aria-label": "Position",
      oninput: () => this.seek(Number(this.slider.value)) });
    this.text = el("output", { class: "time" });
    fill(this, this.rows, el("div", { class: "controls" }, this.button, this.slider, this.text));
    this.seek(0);
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }

  seek(to) {
    this.now = Math.max(0, Math.min(this.count - 1, Math.round(to)));
    this.slider.value = this.now;
    this.text.textContent = `position ${this.now + 1} of ${this.count}`;
    for (const row of this.rows) {
      const buttons = [...row.querySelectorAll("button")];
      buttons.forEach((button, step) => button.classList.toggle("now", step === Math.min(this.now, buttons.length - 1)));
    }
    this.dispatchEvent(new CustomEvent("moved", { detail: this.now }));
  }

  toggle() {
    const playing = this.timer === undefined;
    clearTimeout(this.timer);
    this.timer = undefined;
    if (playing) {
      if (this.now === this.count - 1) this.seek(0);
      const next = () => {
        this.timer = setTimeout(() => {
          this.seek(this.now + 1);
          if (this.now < this.count - 1) next();
          else this.toggle();
        }, 500 / this.rate);
      };
      next();
    }
    this.button.textContent = this.timer === undefined ? "Play" : "Pause";
  }
}

customElements.define("studio-steps", Steps);
