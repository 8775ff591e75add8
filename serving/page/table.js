// Several images: a table with one row each, and the same as CSV.

import { element, headline } from "./results.js";

const HIDDEN = new Set(["prediction_id", "bento", "task", "mask.data", "mask.format"]);

// The scalars of an answer as columns, as `derm predict --csv` names them: a mapping of scalars becomes `name.key`.
function flat(answer) {
  const row = {};
  for (const [name, value] of Object.entries(answer)) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) row[`${name}.${key}`] = inner;
    } else if (!Array.isArray(value)) {
      row[name] = value;
    }
  }
  return row;
}

export function batchNodes(files, results, research) {
  const rows = results.map((result, k) => ({ file: files[k].name, status: result.status, error: result.error ?? "", ...(result.answer ? flat(result.answer) : {}) }));
  const columns = [...new Set(rows.flatMap(Object.keys))].filter((name) => !HIDDEN.has(name));
  const body = results.map((result, k) => {
    const cells = [element("th", { scope: "row" }, [files[k].name])];
    if (result.error) {
      cells.push(element("td", { colspan: "2", class: "refused" }, [`Refused: ${result.error}`]));
    } else {
      const best = result.answer.probabilities ? Math.max(...Object.values(result.answer.probabilities)) : result.answer.confidence;
      cells.push(element("td", {}, [headline(result.answer)]), element("td", { class: "number" }, [(best ?? undefined) === undefined ? "" : `${(100 * best).toFixed(1)} %`]));
    }
    return element("tr", {}, cells);
  });
  const refused = results.filter(({ error }) => error).length;
  const save = element("a", { class: "pick", download: "derm.csv", href: URL.createObjectURL(new Blob([csv(columns, rows, research)], { type: "text/csv" })) }, ["Download CSV"]);
  return [
    element("p", {}, [`${results.length - refused} images answered, ${refused} refused.`]),
    element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Answers" }, [
      element("table", {}, [
        element("thead", {}, [element("tr", {}, ["File", "Answer", "Highest probability"].map((head) => element("th", { scope: "col" }, [head])))]),
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
