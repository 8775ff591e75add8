// Several images: a table with one row each, and the same as CSV.

import { element, headline, readable } from "./results.js";

const HIDDEN = new Set(["prediction_id", "bento", "task", "mask.data", "mask.format"]);

// The scalars of an answer as columns, as `derm predict --csv` names them: a mapping becomes `name.key`, however deep, a list inside one a text.
function flat(answer, before = "") {
  const row = {};
  for (const [name, value] of Object.entries(answer)) {
    const column = before + name;
    if (value !== null && typeof value === "object" && !Array.isArray(value)) Object.assign(row, flat(value, `${column}.`));
    else if (!Array.isArray(value)) row[column] = value;
    else if (before) row[column] = value.join(" + ");
  }
  return row;
}

// The label with the highest probability after correction to a stated prevalence.
function highestHere({ at_prevalence }) {
  if (!at_prevalence) return "";
  const [label, p] = Object.entries(at_prevalence.probabilities).reduce((a, b) => (b[1] > a[1] ? b : a));
  return `${readable(label)} ${(100 * p).toFixed(1)} %`;
}

const inShort = (answer) => (answer.abstained ? `${headline(answer)}: ${answer.abstained_because}` : headline(answer));

export function batchNodes(files, results, research) {
  const rows = results.map((result, k) => ({ file: files[k].name, status: result.status, error: result.error ?? "", ...(result.answer ? flat(result.answer) : {}) }));
  const columns = [...new Set(rows.flatMap(Object.keys))].filter((name) => !HIDDEN.has(name));
  const isCorrected = results.some(({ answer }) => answer?.at_prevalence);
  const hasSets = results.some(({ answer }) => answer?.prediction_set);
  const heads = ["File", "Answer", "Highest probability", ...(isCorrected ? ["Corrected"] : []), ...(hasSets ? ["Cannot be ruled out"] : [])];
  const body = results.map((result, k) => {
    const cells = [element("th", { scope: "row" }, [files[k].name])];
    if (result.error) {
      cells.push(element("td", { colspan: String(heads.length - 1), class: "refused" }, [`Refused: ${result.error}`]));
    } else {
      const best = result.answer.probabilities ? Math.max(...Object.values(result.answer.probabilities)) : result.answer.confidence;
      cells.push(element("td", {}, [inShort(result.answer)]), element("td", { class: "number" }, [(best ?? undefined) === undefined ? "" : `${(100 * best).toFixed(1)} %`]));
      if (isCorrected) cells.push(element("td", {}, [highestHere(result.answer)]));
      if (hasSets) cells.push(element("td", {}, [result.answer.prediction_set?.classes.map(readable).join(", ") ?? ""]));
    }
    return element("tr", {}, cells);
  });
  const refused = results.filter(({ error }) => error).length;
  const abstained = results.filter(({ answer }) => answer?.abstained).length;
  const save = element("a", { class: "pick", download: "derm.csv", href: URL.createObjectURL(new Blob([csv(columns, rows, research)], { type: "text/csv" })) }, ["Download CSV"]);
  return [
    element("p", {}, [`${results.length - refused} images answered, ${refused} refused.${abstained ? ` From ${abstained} of those answered the model abstains.` : ""}`]),
    element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Answers" }, [
      element("table", {}, [
        element("thead", {}, [element("tr", {}, heads.map((head) => element("th", { scope: "col" }, [head])))]),
        element("tbody", {}, body),
      ]),
    ]),
    element("p", {}, [save]),
  ];
}

export function csv(columns, rows, research) {
  const lines = [[...columns, "research_use"], ...rows.map((row) => [...columns.map((name) => row[name] ?? ""), research])];
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

// RFC 4180; text that a spreadsheet would run as a formula is kept from it (OWASP), numbers stay numbers.
function cell(value) {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
