// Sends the samples of the microphone to the page, 2,048 at a time.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(2048);
    this.used = 0;
  }

  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    for (const sample of samples) {
      this.block[this.used++] = sample;
      if (this.used === this.block.length) {
        this.port.postMessage(this.block.slice());
        this.used = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
