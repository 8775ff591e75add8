// The fields of a question, one for each option that the service declares, and what was filled in.

import { Refusal } from "./api.js";
import { element, readable } from "./results.js";

export function field(option) {
  if (option.shares) return sharesField(option);
  if (isTick(option)) return tick(option);
  const id = `option-${option.name}`;
  let input;
  if (option.choices.length) {
    input = element("select", { id, name: option.name }, [element("option", { value: "" }, [option.default ? `Default (${option.default})` : "Not given"])]);
    for (const choice of option.choices) input.append(element("option", { value: choice }, [readable(choice)]));
  } else {
    const limits = option.type === "string" ? {} : { min: option.low ?? "", max: option.high ?? "", step: option.type === "integer" ? 1 : "any" };
    input = element("input", { id, name: option.name, type: option.type === "string" ? "text" : "number", ...limits });
  }
  input.setAttribute("aria-describedby", `${id}-help`);
  return element("div", {}, [element("label", { for: id }, [readable(option.name)]), input, help(id, option.help)]);
}

const help = (id, said) => element("small", { id: `${id}-help` }, [readable(said)]);

const isTick = ({ choices, default: preset }) => choices.length === 2 && choices.includes("yes") && preset === "no";

function tick(option) {
  const box = element("input", { name: option.name, type: "checkbox", value: "yes" });
  return element("div", {}, [element("label", { class: "tick" }, [box, readable(option.help)])]);
}

// How often each label occurs where the model is used: a percentage for each, empty where nothing is said of it.
function sharesField(option) {
  const { trained_at, stated, exclusive } = option.shares;
  const id = `option-${option.name}`;
  const rows = Object.entries(trained_at).map(([label, share]) => {
    const inputId = `${id}-${label}`;
    const input = element("input", { id: inputId, type: "number", min: 0, max: 100, step: "any", inputmode: "decimal", "data-label": label, "aria-describedby": `${id}-help` });
    if (label in stated) input.setAttribute("value", percentage(stated[label]));
    return element("div", { class: "share" }, [element("label", { for: inputId }, [readable(label)]), input, element("small", {}, [`${percentage(share)} % where the model was validated`])]);
  });
  const wanted = exclusive ? "Fill in all of them, 100 % together, or none." : "Empty: not corrected.";
  const preset = Object.keys(stated).length ? " This service is set to the values shown." : "";
  const said = `Adds probabilities corrected for where the images come from. ${wanted}${preset}`;
  return element("fieldset", { class: "shares", "data-shares": option.name }, [element("legend", {}, ["How often the labels occur here (%)"]), element("div", {}, rows), help(id, said)]);
}

const percentage = (share) => String(Number((100 * share).toPrecision(4)));

// What was filled in, as the API takes it. Throws a `Refusal` for shares that do not belong together.
export function chosenOptions(options, form) {
  const found = {};
  for (const node of form.querySelectorAll("[name]")) {
    found[node.name] = node.type === "checkbox" && !node.checked ? "" : node.value;
  }
  for (const group of form.querySelectorAll("[data-shares]")) {
    const name = group.dataset.shares;
    found[name] = sharesText(options.find((option) => option.name === name).shares, [...group.querySelectorAll("input")]);
  }
  return found;
}

function sharesText({ exclusive }, inputs) {
  const given = inputs.filter(({ value }) => value !== "").map((input) => [input.dataset.label, Number(input.value) / 100]);
  if (given.some(([, share]) => !(share > 0 && share < 1))) throw new Refusal(400, "How often a label occurs lies between 0 and 100 %, both excluded.");
  if (exclusive && given.length) {
    const whole = given.reduce((sum, [, share]) => sum + share, 0);
    const missing = inputs.filter(({ value }) => value === "").map((input) => readable(input.dataset.label));
    if (missing.length) throw new Refusal(400, `Fill in how often each label occurs here, or leave all of them empty; empty: ${missing.join(", ")}.`);
    if (Math.abs(whole - 1) > 0.01) throw new Refusal(400, `How often the labels occur must be 100 % together; it is ${(100 * whole).toFixed(1)} %.`);
  }
  if (inputs.length === 1) return given.length ? number(given[0][1]) : "";
  return given.map(([label, share]) => `${label}:${number(share)}`).join(",");
}

const number = (share) => String(Number(share.toPrecision(6)));
