// The page of one service: it is built from what the service says of itself, so that it fits every task.

import { ask, askBatch, readCard, readSuite, Refusal, useTask, useToken } from "./api.js";
import { BoxEditor } from "./boxes.js";
import { loaded, pastedFiles, Slot } from "./image.js";
import { answerNodes, element, facts, matched, neighbourNodes, overlaid, readable } from "./results.js";
import { chosenOptions, field } from "./options.js";
import { batchNodes } from "./table.js";
import { isUsable, mark, taskNodes } from "./tasks.js";

const BATCH_BYTES = 60 * 2 ** 20; // a little less than one request may have
const at = (id) => document.getElementById(id);
let card = null;
let slots = [];
let editors = {};
let turns = 0; // a task was chosen: what an earlier one still answers is not shown

async function start() {
  let found;
  try {
    useTask("");
    found = await readCard();
  } catch (error) {
    if (error.status === 401) return askForToken();
    return refuse(error);
  }
  at("access").hidden = true;
  if (!found.tasks) return showService(found);
  at("subtitle").textContent = "Choose a task.";
  showTasks(found);
  await chosenInAddress(found);
}

function showTasks(suite) {
  const focused = at("task-list").contains(document.activeElement) ? document.activeElement.dataset.task : null;
  at("tasks").hidden = false;
  at("task-list").replaceChildren(...taskNodes(suite.tasks, (name) => (location.hash = name)));
  mark(at("task-list"), card?.task);
  at("task-list").querySelector(`[data-task="${focused}"]`)?.focus();
}

// The address names the task, so that it can be kept as a bookmark and the browser's way back works.
async function chosenInAddress(suite) {
  const name = location.hash.slice(1);
  const task = suite.tasks.find((one) => one.task === name);
  if (!task || card?.task === name) return;
  const turn = ++turns;
  clear();
  card = null;
  at("question").hidden = at("about").hidden = true;
  mark(at("task-list"), name);
  if (!isUsable(task)) {
    at("title").textContent = task.title;
    at("subtitle").textContent = "No model is ready.";
    return refuse(new Refusal(503, `${task.why[0].toUpperCase()}${task.why.slice(1)}.`));
  }
  at("subtitle").textContent = `Loading the model of ${task.title} …`;
  useTask(task.address);
  try {
    const found = await readCard();
    if (turn !== turns) return;
    showService(found);
  } catch (error) {
    if (turn === turns) refuse(error);
  }
  const now = await readSuite();
  if (turn === turns) showTasks(now); // another model may have been let go for this one
}

function showService(found) {
  card = found;
  document.title = `${card.title} · derm`;
  at("title").textContent = card.title;
  at("subtitle").textContent = card.ready ? `Model ${card.model_version}` : "No model is ready.";
  if (!card.ready) return refuse(new Refusal(503, "No verified model is loaded, so nothing can be analysed. /readyz says why."));
  at("question").hidden = at("about").hidden = false;
  at("sample").hidden = !card.model.for_synthetic_images;
  showSlots();
  showOptions();
  showFacts();
}

function askForToken() {
  at("subtitle").textContent = "";
  at("access").hidden = false;
  at("token").focus();
}

const isPair = () => card.asked_at === "/match";
const hasFellow = () => card.asked_with.includes("fellow");

function showSlots() {
  const many = card.batch > 1;
  const names = isPair() ? [["first", "First visit"], ["second", "Second visit"]] : [["image", hasFellow() ? "Eye in question" : many ? "One image, or several" : "Image"]];
  if (hasFellow()) names.push(["second", "Fellow eye (optional)"]);
  slots = names.map(([name, title]) => new Slot({ name, title, many: many && name === "image", accepts: card.accepts, onChange: changed }));
  at("slots").replaceChildren(...slots.map(({ node }) => node));
}

async function changed(slot) {
  at("alert").hidden = true;
  at("analyse").disabled = !slots.filter(({ name }) => isPair() || name === "image").every(({ files }) => files.length);
  if (!isPair()) return;
  delete editors[slot.name];
  const image = await loaded(slot.files[0]);
  if (!image) return;
  editors[slot.name] = new BoxEditor({ name: slot.name, labels: card.labels, image });
  slot.shown.replaceChildren(editors[slot.name].node);
}

function showOptions() {
  const unused = card.options.filter(({ used, for_programs }) => !used && !for_programs).map(({ name }) => readable(name).toLowerCase());
  at("unused").hidden = !unused.length;
  at("unused").textContent = `This model does not use: ${unused.join(", ")}.`;
  const shown = [];
  for (const option of card.options) {
    if (!option.used || option.for_programs || !option.paths.includes(card.asked_at)) continue;
    shown.push(field(option));
  }
  at("options").replaceChildren(...shown);
}

function showFacts() {
  const { model } = card;
  const licences = Object.entries(model.image_licences).map(([name, n]) => `${name} (${n})`).join(", ");
  at("about-facts").replaceChildren(
    facts([
      ["Task", readable(card.task)],
      ["Labels", card.labels.map(readable).join(", ")],
      ["Model version", card.model_version],
      ["Recipe", model.recipe],
      ["Trained on", model.for_synthetic_images ? "synthetic images (recipe drawn)" : `dataset ${card.dataset_md5}`],
      ["Dataset", card.dataset_md5],
      ["Licences of the training images", licences || "not recorded"],
      ["Network", `${model.backbone}, pretrained weights: ${model.pretrained}`],
      ["Facts about the person that it uses", model.attributes.join(", ") || "none"],
      ["Known images to compare with", card.similar_images ? `${card.similar_images} (${card.licences.join(", ")})` : "none"],
      ["Served by", card.bento],
    ]),
  );
}

async function analyse() {
  const [main] = slots;
  const turn = turns;
  busy(true);
  try {
    const nodes = main.files.length > 1 ? await several(main.files) : await one();
    if (turn !== turns) return;
    at("result-body").replaceChildren(...nodes);
    at("result").hidden = false;
    at("result").focus();
    at("status").textContent = "Done.";
  } catch (error) {
    if (turn === turns) refuse(error);
  } finally {
    if (turn === turns) busy(false);
  }
}

async function one() {
  const files = Object.fromEntries(slots.filter((slot) => slot.files.length).map((slot) => [slot.name, slot.files[0]]));
  const boxes = Object.fromEntries(["first", "second"].map((side) => [side, editors[side]?.json() ?? []]));
  let parts = files;
  if (isPair()) parts = { ...files, boxes: JSON.stringify(boxes) };
  else if (files.second) parts = { first: files.image, second: files.second };
  const options = { ...chosenOptions(card.options, at("options")), ...(isPair() ? {} : { size: 1024 }) };
  const found = await ask("/explain", parts, options);
  const words = element("div", {}, [...answerNodes(found.answer), identity(found)]);
  const seen = element("div");
  const answer = element("div", { class: "answer" }, [seen, words]);
  if (isPair()) {
    const images = await Promise.all([loaded(files.first), loaded(files.second)]);
    if (images.every(Boolean)) seen.append(matched(images, boxes, found.answer));
    return [answer];
  }
  const image = await loaded(files.image);
  if (image && found.layers.length) {
    const again = async (label) => (await ask("/explain", parts, { ...options, label })).layers[0];
    const explainable = card.options.some(({ name, used }) => name === "label" && used);
    seen.append(await overlaid(image, found, again, explainable ? card.labels : null));
  } else if (!image) {
    seen.append(await drawn(parts, options));
  }
  return [answer, ...(await similar(files.image, found.answer.predicted))];
}

// Of a file that the browser cannot show, such as DICOM: what the service draws of it.
async function drawn(parts, options) {
  const src = URL.createObjectURL(await ask("/explain", parts, options, "image/png"));
  return element("figure", {}, [element("img", { class: "drawn", src, alt: "Your image under its explanation" }), element("figcaption", {}, ["Drawn by the service, as your browser cannot show this file."])]);
}

async function similar(file, said) {
  if (!card.similar_images) return [];
  try {
    return neighbourNodes(await ask("/similar", { image: file }, { k: 6, thumbnails: card.thumbnails ? "yes" : "no" }), said);
  } catch (error) {
    if (error.status !== 400 && error.status !== 503) throw error;
    return [element("p", { class: "hint" }, [error.message])];
  }
}

async function several(files) {
  const results = [];
  const options = chosenOptions(card.options, at("options"));
  for (const chunk of chunks(files)) {
    at("status").textContent = `Analysing image ${results.length + 1} of ${files.length} …`;
    const found = await askBatch(card.asked_at, chunk, options);
    results.push(...found.results);
  }
  return batchNodes(files, results, card.research_use);
}

function chunks(files) {
  const found = [[]];
  let bytes = 0;
  for (const file of files) {
    if (found.at(-1).length && (found.at(-1).length >= card.batch || bytes + file.size > BATCH_BYTES)) {
      found.push([]);
      bytes = 0;
    }
    found.at(-1).push(file);
    bytes += file.size;
  }
  return found;
}

function identity(found) {
  const pairs = [["Prediction", found.prediction_id], ["Model version", found.model_version], ["Dataset", found.dataset_md5], ["Served by", found.bento]];
  if (found.options_ignored.length) pairs.push(["Sent but without effect", found.options_ignored.filter((name) => name !== "size").join(", ") || "none"]);
  return element("details", {}, [element("summary", {}, ["Identity of this answer"]), facts(pairs)]);
}

function busy(isBusy) {
  at("analyse").disabled = isBusy;
  if (isBusy) {
    at("alert").hidden = true;
    at("status").textContent = "Analysing …";
  } else if (at("status").textContent.startsWith("Analysing")) {
    at("status").textContent = "";
  }
}

function refuse(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.status === 401) askForToken();
  at("alert").textContent = error.message;
  at("alert").hidden = false;
  at("result").hidden = true;
}

at("question-form").addEventListener("submit", (event) => {
  event.preventDefault();
  analyse();
});
function clear() {
  editors = {};
  for (const slot of slots) slot.clear();
  at("analyse").disabled = true;
  at("result").hidden = at("alert").hidden = true;
  at("status").textContent = "";
}

at("question-form").addEventListener("reset", clear);
window.addEventListener("hashchange", async () => {
  if (at("tasks").hidden) return;
  try {
    await chosenInAddress(await readSuite());
  } catch (error) {
    refuse(error);
  }
});
at("access-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("token").value);
  at("token").value = "";
  start();
});
document.addEventListener("paste", (event) => {
  const files = pastedFiles(event);
  if (!files.length || !slots.length) return;
  (slots.find((slot) => !slot.files.length) ?? slots[0]).take(files);
});
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
start();
