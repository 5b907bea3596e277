// Requests to the studio, and the events that it sends to all pages.

const waiting = new Map(); // the promises of jobs that this page started, by number
const finished = new Map(); // jobs that ended before their promise was made
const listeners = new Map();

export function on(kind, run) {
  if (!listeners.has(kind)) listeners.set(kind, []);
  listeners.get(kind).push(run);
}

function emit(kind, data) {
  for (const run of listeners.get(kind) ?? []) run(data);
}

export async function get(path) {
  return read(await fetch(path));
}

export async function bytes(path) {
  const response = await fetch(path);
  if (!response.ok) await read(response);
  return response;
}

export async function post(path, body) {
  const raw = body instanceof Blob || body instanceof ArrayBuffer;
  return read(await fetch(path, { method: "POST", body: raw ? body : JSON.stringify(body ?? {}) }));
}

// Start a job, and return its result when it is done. `told` gets the job whenever it tells its progress.
// `started` gets the job's number, by which it can be cancelled.
export async function act(path, body, told, started) {
  const job = await post(path, body);
  started?.(job.number);
  return new Promise((resolve, reject) => {
    waiting.set(job.number, { resolve, reject, told });
    const ended = finished.get(job.number);
    if (ended) settle(ended);
  });
}

async function read(response) {
  let data;
  try {
    data = await response.json();
  } catch {
    data = { problem: await response.text().catch(() => "") };
  }
  if (!response.ok) throw new Error(data.problem || `The studio answered ${response.status}.`);
  return data;
}

function settle(job) {
  const own = waiting.get(job.number);
  if (!own) {
    if (job.state !== "waiting" && job.state !== "running") {
      finished.set(job.number, job);
      if (finished.size > 100) finished.delete(finished.keys().next().value);
    }
    return;
  }
  if (job.state === "done") own.resolve(job.result);
  else if (job.state === "failed") own.reject(new Error(job.problem));
  else if (job.state === "cancelled") own.reject(new Error("Cancelled."));
  else return own.told?.(job);
  waiting.delete(job.number);
}

export function connect() {
  const source = new EventSource("/events");
  source.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    settle(job);
    emit("job", job);
  });
  for (const kind of ["items", "corrections"]) {
    source.addEventListener(kind, (event) => emit(kind, JSON.parse(event.data)));
  }
  source.addEventListener("error", () => emit("lost", source.readyState !== EventSource.OPEN));
  source.addEventListener("open", async () => {
    emit("lost", false);
    // What ended while there was no connection would be waited for without end.
    for (const number of [...waiting.keys()]) {
      try {
        settle(await get(`/api/jobs/${number}`));
      } catch (error) {
        waiting.get(number)?.reject(error);
        waiting.delete(number);
      }
    }
  });
  window.addEventListener("pagehide", () => source.close());
}
