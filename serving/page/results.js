// Answers in words, numbers and images. What a task answers is shown by its shape, so that a new task needs nothing here.

import { drawBox } from "./boxes.js";

// Colours of Okabe and Ito: told apart with every common colour blindness; the same as in the drawings of the service.
const STATES = { persistent: "#009e73", resolved: "#56b4e9", new: "#d55e00", not_visible: "#f0e442" };
const ELSEWHERE = new Set(["task", "probabilities", "operating_points", "decision", "thresholds", "decisions", "fellow_share", "predicted", "present", "mask", "model_version", "dataset_md5", "matches", "first", "second", "abstained", "abstained_because", "at_prevalence", "prediction_set"]);

const NAMES = { prevalence: "Prevalence in the validation split" };

export function element(name, attributes = {}, children = []) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export const readable = (name) => {
  const words = String(name).replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
};

const percent = (value, digits = 1) => (value === null || value === undefined ? "not known" : `${(100 * value).toFixed(digits)} %`);

export function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) list.append(element("dt", {}, [name]), element("dd", {}, [value]));
  return list;
}

function table(caption, heads, rows) {
  const body = rows.map((row) => element("tr", {}, row.map((cell, k) => element(k ? "td" : "th", k ? {} : { scope: "row" }, [cell]))));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption }, [
    element("table", {}, [
      element("caption", {}, [caption]),
      element("thead", {}, [element("tr", {}, heads.map((head) => element("th", { scope: "col" }, [head])))]),
      element("tbody", {}, body),
    ]),
  ]);
}

// The answer of one question, without its drawing.
export function answerNodes(answer) {
  const nodes = [];
  const said = headline(answer);
  if (said) nodes.push(element("p", { class: "headline" }, [said]));
  if (answer.abstained && answer.accepted === undefined) nodes.push(element("p", { class: "alert" }, [`The model abstains: ${answer.abstained_because}.`]));
  if (answer.accepted === false) nodes.push(element("p", { class: "alert" }, [`No answer: ${answer.reason}.`]));
  if (answer.probabilities) nodes.push(probabilities(answer));
  if (answer.at_prevalence) nodes.push(...corrected(answer));
  if (answer.prediction_set) nodes.push(...notRuledOut(answer.prediction_set));
  if (answer.decision) nodes.push(...decision(answer.decision));
  if (answer.operating_points?.length) nodes.push(points(answer.operating_points));
  if (answer.matches) nodes.push(...states(answer));
  const rest = Object.entries(answer).filter(([name, value]) => !ELSEWHERE.has(name) && name !== "reason" && isPlain(value) && !(name === "in_distribution" && value === null));
  if (rest.length) nodes.push(facts(rest.map(([name, value]) => [NAMES[name] ?? readable(name), plain(name, value)])));
  return nodes;
}

export function headline(answer) {
  if (answer.abstained && answer.accepted === undefined) return "No answer";
  if (answer.predicted !== undefined) return readable(answer.predicted);
  if (answer.present !== undefined) return answer.present === "none" ? "No finding present" : `Present: ${answer.present.split(" + ").map(readable).join(", ")}`;
  if (answer.area_share !== undefined) return answer.area_share ? `Lesion: ${percent(answer.area_share)} of the image` : "No lesion found";
  if (answer.accepted) return `${answer.matches.length} persistent`;
  return "";
}

const isPlain = (value) => value === null || ["string", "number", "boolean"].includes(typeof value) || (typeof value === "object" && !Array.isArray(value) && Object.values(value).every((inner) => typeof inner !== "object"));

function plain(name, value) {
  if (value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") return Object.entries(value).map(([key, inner]) => `${readable(key).toLowerCase()} ${inner}`).join(", ");
  if (typeof value === "number" && !Number.isInteger(value)) return value.toPrecision(3);
  return String(value);
}

function probabilities(answer) {
  const entries = Object.entries(answer.probabilities);
  if (!answer.thresholds) entries.sort((a, b) => b[1] - a[1]);
  const rows = entries.map(([label, value]) => {
    const bar = element("meter", { min: 0, max: 1, value, "aria-label": `${readable(label)}: ${percent(value)}` });
    const row = [readable(label), bar, percent(value)];
    if (answer.thresholds && answer.decisions) row.push(percent(answer.thresholds[label]), answer.decisions[label] ? "present" : "not present");
    if (answer.fellow_share && Object.values(answer.fellow_share).some(Boolean)) row.push(percent(answer.fellow_share[label], 0));
    return row;
  });
  const heads = ["Label", "", "Probability"];
  if (answer.thresholds) heads.push("Threshold", "Decision");
  if (rows[0]?.length === 6) heads.push("Share of the other eye");
  heads[1] = "Bar";
  const shown = table("Probabilities (calibrated)", heads, rows);
  for (const cell of shown.querySelectorAll("tr > :nth-child(2)")) cell.classList.add("bar"); // a phone has no room for it
  return shown;
}

// The probabilities where the labels are rarer or more frequent than in the validation split: beside, never instead.
function corrected(answer) {
  const { prevalence, trained_at, probabilities: there, ppv } = answer.at_prevalence;
  const rows = Object.keys(prevalence).map((label) => [readable(label), percent(there[label]), percent(answer.probabilities[label]), percent(prevalence[label]), percent(trained_at[label])]);
  const nodes = [table("Corrected for how often the labels occur here", ["Label", "Corrected probability", "Not corrected", "Occurs here", "In validation"], rows)];
  const most = Object.keys(there).reduce((a, b) => (there[b] > there[a] ? b : a));
  if (answer.predicted in there && answer.predicted !== most && most in prevalence) nodes.push(element("p", { class: "notice" }, [`Corrected, ${readable(most).toLowerCase()} is the most likely label, not ${readable(answer.predicted).toLowerCase()}.`]));
  const flagged = Object.entries(ppv).flatMap(([label, points]) => Object.entries(points).map(([point, value]) => [`${readable(point)}: ${readable(label).toLowerCase()}`, percent(value)]));
  if (flagged.length) nodes.push(element("p", {}, ["Of images flagged at an operating point, the share that has the label here:"]), facts(flagged));
  nodes.push(element("p", { class: "hint" }, ["This assumes that only how often the labels occur differs, not how they look. Decisions and operating points are not corrected."]));
  return nodes;
}

function notRuledOut({ classes, holds, limits }) {
  const all = classes.length === Object.keys(limits).length;
  const said = all ? "All of them: nothing is ruled out" : classes.map(readable).join(", ") || "None: validation held nothing like this image";
  return [
    element("h3", {}, ["Classes that cannot be ruled out"]),
    element("p", { class: "set" }, [said]),
    element("p", { class: "hint" }, [`Of new cases of each class, ${percent(holds, 0)} have their class in such a set, on average over many images. It is no promise for one person, a subgroup or another camera.`]),
  ];
}

function decision(found) {
  const word = { true: "Positive", false: "Negative", null: "No decision" }[String(found.positive)];
  const pairs = [["Operating point", readable(found.point)]];
  if (found.threshold !== null) pairs.push(["Threshold", percent(found.threshold)]);
  if (found.recall !== null) pairs.push(["Sensitivity", percent(found.recall)]);
  if (found.recall_at_least !== null) pairs.push(["Sensitivity at least", `${percent(found.recall_at_least)} (95 % confidence)`]);
  if (found.specificity !== null) pairs.push(["Specificity", percent(found.specificity)]);
  if (found.positives !== null) pairs.push(["Positive validation images (n)", String(found.positives)]);
  return [element("h3", {}, [`Decision: ${word}`]), element("p", {}, [readable(found.why) + "."]), facts(pairs)];
}

function points(found) {
  const rows = found.map((point) => {
    const bound = point.name === "balanced" ? "no bound, the threshold was chosen on these cases" : `at least ${percent(point.sensitivity_low)} with 95 % confidence`;
    return [
      `${readable(point.name)}: ${readable(point.label).toLowerCase()}`,
      `${point.positive ? "Positive" : "Negative"} (from ${percent(point.threshold)})`,
      `Sensitivity ${percent(point.sensitivity)} (${bound}, n = ${point.positives}), specificity ${percent(point.specificity)}`,
    ];
  });
  return table("Decisions and their evidence on the validation split", ["Operating point", "Decision", "Evidence"], rows);
}

function states(answer) {
  const partners = { first: {}, second: {} };
  for (const match of answer.matches) {
    partners.first[match.first] = [match.second, match.size_change];
    partners.second[match.second] = [match.first, match.size_change];
  }
  const rows = [];
  for (const side of ["first", "second"]) {
    for (const box of answer[side]) {
      const partner = partners[side][box.number];
      rows.push([`${readable(side)} ${box.number}`, readable(box.label), box.state ? readable(box.state) : "not decided", box.confidence === undefined ? "" : percent(box.confidence), partner ? `box ${partner[0]}, size × ${partner[1].toFixed(2)}` : ""]);
    }
  }
  return rows.length ? [table("What became of each box", ["Box", "Condition", "State", "Confidence", "In the other photo"], rows)] : [];
}

// The image with a layer over it and a slider for the layer's opacity.
export async function overlaid(image, explanation, onLabel, labels) {
  const layer = explanation.layers[0];
  const stack = element("div", { class: "stack" }, [image]);
  image.setAttribute("alt", "Your image");
  const canvas = element("canvas", { "aria-hidden": "true" });
  stack.append(canvas);
  await paint(canvas, layer, explanation.kind);
  const slider = element("input", { type: "range", min: 0, max: 100, value: 60, id: "opacity" });
  const follow = () => {
    canvas.style.opacity = slider.value / 100;
  };
  slider.addEventListener("input", follow);
  follow();
  const what = explanation.kind === "outline" ? "Mask" : "Heatmap";
  const caption = explanation.kind === "outline" ? "The model's mask of the lesion." : `Grad-CAM of ${readable(layer.label)}: the regions that influenced the prediction most.`;
  const figure = element("figure", {}, [stack, element("figcaption", {}, [caption]), element("label", { class: "field", for: "opacity" }, [`${what} opacity`]), slider]);
  const known = labels ?? explanation.layers.map(({ label }) => label);
  if (known.length > 1) figure.append(...chooser(known, layer, explanation, canvas, onLabel));
  return figure;
}

function chooser(known, layer, explanation, canvas, onLabel) {
  const select = element("select", { id: "heatmap-label" });
  for (const label of known) select.append(element("option", { value: label }, [readable(label)]));
  select.value = layer.label;
  select.addEventListener("change", async () => {
    const here = explanation.layers.find(({ label }) => label === select.value);
    await paint(canvas, here ?? (await onLabel(select.value)), explanation.kind);
    canvas.closest("figure").querySelector("figcaption").textContent = `Grad-CAM of ${readable(select.value)}: the regions that influenced the prediction most.`;
  });
  return [element("label", { class: "field", for: "heatmap-label" }, ["Heatmap of"]), select];
}

async function paint(canvas, layer, kind) {
  const grey = new Image();
  grey.src = `data:image/png;base64,${layer.overlay.data}`;
  await grey.decode();
  canvas.width = grey.naturalWidth;
  canvas.height = grey.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(grey, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  for (let i = 0; i < data.length; i += 4) {
    const heat = data[i] / 255;
    const [r, g, b] = kind === "outline" ? [255, 232, 0] : viridis(heat);
    data[i] = r;
    data[i + 1] = g;
    data[i + 2] = b;
    data[i + 3] = 255 * heat;
  }
  context.putImageData(pixels, 0, 0);
}

// The perceptually even colour map viridis as polynomials: what the service's own drawings and the reports use.
function viridis(x) {
  const of = (...c) => 255 * Math.min(1, Math.max(0, c.reduceRight((sum, factor) => sum * x + factor, 0)));
  return [
    of(0.27772733, 0.10509304, -0.33086183, -4.6342305, 6.22826994, 4.776385, -5.43545586),
    of(0.00540734, 1.40461353, 0.21484756, -5.79910097, 14.17993337, -13.74514538, 4.64585261),
    of(0.33409981, 1.38459016, 0.09509516, -19.33244096, 56.6905526, -65.35303263, 26.31243525),
  ];
}

// Both photos side by side: boxes in the colour of their state, a line for each match.
export function matched(images, boxes, answer) {
  const height = 640;
  const scales = images.map((image) => height / image.naturalHeight);
  const widths = images.map((image, k) => Math.round(image.naturalWidth * scales[k]));
  const lefts = [0, widths[0] + 12];
  const canvas = element("canvas", { class: "drawn", role: "img" });
  canvas.width = lefts[1] + widths[1];
  canvas.height = height;
  const context = canvas.getContext("2d");
  const unit = canvas.width / 700;
  const middles = images.map((image, k) => {
    context.drawImage(image, lefts[k], 0, widths[k], height);
    const side = k ? "second" : "first";
    return boxes[side].map(({ box }, number) => {
      const scaled = box.map((value, edge) => value * scales[k] + (edge % 2 ? 0 : lefts[k]));
      drawBox(context, scaled, String(number), STATES[answer[side][number]?.state] ?? "#e6e6e6", unit);
      return [(scaled[0] + scaled[2]) / 2, (scaled[1] + scaled[3]) / 2];
    });
  });
  for (const match of answer.matches) {
    for (const [ink, width] of [["#000000", 3 * unit], [STATES.persistent, 1.5 * unit]]) {
      context.strokeStyle = ink;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(...middles[0][match.first]);
      context.lineTo(...middles[1][match.second]);
      context.stroke();
    }
  }
  canvas.setAttribute("aria-label", `Both photos with ${answer.matches.length} matches; the table lists them`);
  return element("figure", {}, [canvas, element("figcaption", {}, ["A line joins two boxes that show one condition. Green: persistent, blue: resolved, orange: new, yellow: not visible."])]);
}

// `said`: the label of the answer; known images that carry it stand in a frame
export function neighbourNodes(found, said) {
  const list = element("ul", { class: "neighbours" });
  for (const near of found.neighbours) {
    const shown = near.thumbnail ? [element("img", { src: near.thumbnail, alt: `Known image: ${readable(near.label)}` })] : [];
    list.append(element("li", near.label === said ? { class: "same" } : {}, [...shown, element("strong", {}, [readable(near.label)]), element("div", {}, [`similarity ${near.score.toFixed(3)}`]), element("div", { class: "hint" }, [`${near.split}, ${near.licence}`])]));
  }
  const note = found.picture_is_in_the_set ? "This image is itself in the dataset: it and its patient are left out." : `${found.searched} known images were searched. Framed: the same label as the answer.`;
  return [element("h3", {}, ["Similar images"]), element("p", { class: "hint" }, [note]), list];
}
