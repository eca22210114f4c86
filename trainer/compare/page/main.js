// Reads the data that the page carries, and puts the sections in their places. The responses come last, as they may be many.
"use strict";

/** The JSON of a script element; compressed if its type says so. */
async function carried(id) {
  const { type, textContent } = document.getElementById(id);
  if (type === "application/json") return JSON.parse(textContent);
  const text = atob(textContent);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function put(id, title, children) {
  const section = html("section", { id }, html("h2", {}, title), children);
  document.getElementById("main").append(section);
  document.getElementById("contents").append(html("a", { href: `#${id}` }, title));
  return section;
}

async function main() {
  document.body.append(tooltip.node);
  document.addEventListener("scroll", () => tooltip.hide(), { passive: true, capture: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && tooltip.hide());
  const overview = await carried("overview");
  document.getElementById("summary").textContent = overview.summary;
  if (overview.notes.length) put("notes", "Notes", notesSection(overview));
  put("provenance", "What is compared", provenanceSection(overview));
  put("metrics", "Metrics", metricsSection(overview));
  if (overview.pareto.length) put("pareto", "Safety and its cost", paretoSection(overview));
  if (overview.tests.length) put("tests", "Paired tests", testsSection(overview));
  if (overview.curves.length) put("curves", "Training", curvesSection(overview));
  if (overview.differences.keys.length) put("differences", "Config differences", differencesSection(overview));
  const place = put("responses-section", "Responses", html("p", { class: "note" }, "reading …"));
  await new Promise((resume) => setTimeout(resume)); // the tables are drawn first
  const responses = new Responses(await carried("responses"));
  place.lastChild.remove();
  if (responses.count) place.append(new Browser(responses).node);
  else place.append(html("p", { class: "empty" }, "None were kept with these runs."));
  document.documentElement.dataset.ready = "yes";
}

main().catch((error) => {
  document.getElementById("main").prepend(html("p", { class: "error", role: "alert" }, `This page could not be drawn: ${error}. A current browser is needed (2023 or later).`));
});
