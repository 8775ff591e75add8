// The tasks of a suite as a list: one button each, or why it cannot be asked.

import { element, readable } from "./results.js";

export const isUsable = ({ state }) => state === "loaded" || state === "not_loaded";

export function taskNodes(tasks, choose) {
  return tasks.map((task) => {
    const id = `about-${task.task}`;
    const usable = isUsable(task);
    const said = element("small", { id }, [usable ? ready(task) : `Not available: ${task.why}.`]);
    const name = element("button", { type: "button", class: "plain", "data-task": task.task, "aria-describedby": id }, [task.title || readable(task.task)]);
    if (!usable) name.setAttribute("aria-disabled", "true"); // it can be reached by keyboard, and then says why
    name.addEventListener("click", () => usable && choose(task.task));
    return element("li", {}, [name, said]);
  });
}

function ready({ state, model_version }) {
  const words = state === "loaded" ? "Ready" : "Ready; its model is loaded when it is chosen";
  return model_version ? `${words} · model ${model_version}` : words;
}

// Which one is chosen, for the eye and for a screen reader.
export function mark(list, chosen) {
  for (const button of list.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.task === chosen));
}
