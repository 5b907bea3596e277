// Record the microphone as 16-bit WAV, by an AudioWorklet: no codec, no conversion.

import { el, seconds } from "/static/dom.js";

const LONGEST = 1800; // seconds

export function recordButton(done) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    return el("p", { class: "hint" },
      "Recording works on the machine of the studio only: browsers allow the microphone on localhost and https.");
  }
  let stop = null;
  const button = el("button", { class: "record", "aria-pressed": "false" }, "Record");
  const message = el("span", { class: "hint", role: "status" });
  button.addEventListener("click", async () => {
    if (stop) return stop();
    try {
      stop = await record((elapsed) => {
        message.textContent = ` ${seconds(elapsed)}`;
        if (elapsed > LONGEST) stop?.();
      }, (wav) => {
        stop = null;
        button.textContent = "Record";
        button.setAttribute("aria-pressed", "false");
        message.textContent = "";
        done(wav);
      });
      button.textContent = "Stop";
      button.setAttribute("aria-pressed", "true");
    } catch (error) {
      stop = null;
      message.textContent = error.name === "NotAllowedError" ? " The browser does not allow the microphone."
        : error.name === "NotFoundError" ? " There is no microphone." : ` ${error.message}`;
    }
  });
  return el("span", {}, button, message);
}

async function record(tell, done) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false,
    noiseSuppression: false, autoGainControl: false } });
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule("/static/recorder-worklet.js");
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
    throw error;
  }
  const source = context.createMediaStreamSource(stream);
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  const blocks = [];
  let count = 0;
  node.port.onmessage = ({ data }) => {
    blocks.push(data);
    count += data.length;
    tell(count / context.sampleRate);
  };
  source.connect(node);
  return async () => {
    source.disconnect();
    stream.getTracks().forEach((track) => track.stop());
    await new Promise((resolve) => setTimeout(resolve, 50)); // the last block is on its way
    const rate = context.sampleRate;
    await context.close();
    done(new Blob([wav(blocks, count, rate)], { type: "audio/wav" }));
  };
}

function wav(blocks, count, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (at, value) => [...value].forEach((letter, number) => view.setUint8(at + number, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * count, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * count, true);
  let at = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(at, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
      at += 2;
    }
  }
  return view.buffer;
}
