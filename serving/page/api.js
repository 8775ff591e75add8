// Talks to the service. Nothing is kept: the token lives in this module until the page is closed.

let token = "";
let base = ""; // of a suite: the folder of the task that was chosen

export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export function useTask(address) {
  base = address;
}

export function useToken(value) {
  token = value.trim();
}

async function send(path, { method = "GET", body, accept = "application/json", type } = {}) {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (type) headers["Content-Type"] = type;
  let response;
  try {
    response = await fetch(path, { method, body, headers, cache: "no-store", redirect: "error" });
  } catch {
    throw new Refusal(0, "The service does not answer. Is it still running?");
  }
  if (!response.ok) throw new Refusal(response.status, await sentence(response));
  return accept === "application/json" ? response.json() : response.blob();
}

async function sentence(response) {
  try {
    const { error } = await response.json();
    return error ? error[0].toUpperCase() + error.slice(1) + "." : `The service answered ${response.status}.`;
  } catch {
    return `The service answered ${response.status}.`;
  }
}

function address(path, options) {
  const given = Object.entries(options).filter(([, value]) => value !== "");
  return given.length ? `${base}${path.slice(1)}?${new URLSearchParams(given)}` : base + path.slice(1);
}

// What the service is, or the task that was chosen: the same JSON that machines get.
export const readCard = () => send(base || "./");

// What the suite is, whichever task was chosen.
export const readSuite = () => send("./");

// One question: a file, or the named parts of a form.
export function ask(path, parts, options = {}, accept = "application/json") {
  const names = Object.keys(parts);
  if (names.length === 1 && names[0] === "image") {
    return send(address(path, options), { method: "POST", body: parts.image, type: "application/octet-stream", accept });
  }
  const form = new FormData();
  // a file goes without its own name, which is often a patient's
  for (const [name, part] of Object.entries(parts)) form.append(name, part, ...(part instanceof Blob ? [name] : []));
  return send(address(path, options), { method: "POST", body: form, accept });
}

// Several images in one request; the answers come in the order of the files.
export function askBatch(path, files, options = {}) {
  const form = new FormData();
  for (const file of files) form.append("image", file, "image");
  return send(address(path, options), { method: "POST", body: form });
}
