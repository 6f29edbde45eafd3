"use strict";
// Everything that comes from outside is written with textContent, or through `escaped` where plotly reads a subset of HTML.
const page = JSON.parse(document.getElementById("content").textContent);
const $ = (id) => document.getElementById(id);
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a8a8a", "#8C6D31", "#7a5fb5", "#b15928"];
const MARKS = { surely: "circle", maybe: "circle-open", off: "x-thin-open" };
const state = new URLSearchParams(location.hash.slice(1));

const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const brief = (text) => (text.length > 48 ? text.slice(0, 47) + "…" : text);
const colour = (i) => COLOURS[i % COLOURS.length];
const number = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toLocaleString("en"));

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

function put(name, value) {
  if (value === null || (value === "" && name !== "cols")) state.delete(name); else state.set(name, value);
  history.replaceState(null, "", "#" + state);
}

const table = () => page.tables[Number(state.get("t") || 0)] || page.tables[0];

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => {
    const made = element("option", text);
    made.value = value;
    made.selected = value === chosen;
    return made;
  }));
}

// ---- the comparison

const shownColumns = () => {
  const asked = state.get("cols");
  const named = asked === null ? null : new Set(asked.split(","));
  return table().columns.map((column, i) => ({ ...column, i })).filter((column) => (named ? named.has(column.name) : column.shown));
};

function orderedRows() {
  const words = (state.get("filter") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const said = (i) => [table().rows[i].status, ...shownColumns().map((column) => column.cells[i][0])].join(" ").toLowerCase();
  let rows = table().rows.map((_, i) => i).filter((i) => words.every((word) => said(i).includes(word)));
  if (state.get("baselines") === "0") rows = rows.filter((i) => !table().rows[i].baseline);
  const by = table().columns.find((column) => column.name === state.get("sort"));
  if (!by) return rows;
  const sign = state.get("desc") ? -1 : 1;
  const key = (i) => by.cells[i][1];
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  return rows.sort((i, j) => (key(i) === null) - (key(j) === null) || sign * compare(key(i), key(j)));
}

function drawTable() {
  const columns = shownColumns();
  const head = element("tr", null, ...columns.map((column) => {
    const made = element("th", column.header || column.name);
    made.tabIndex = 0;
    made.title = `${column.name}: click to sort`;
    if (state.get("sort") === column.name) made.setAttribute("aria-sort", state.get("desc") ? "descending" : "ascending");
    made.onclick = () => {
      put("desc", state.get("sort") === column.name && !state.get("desc") ? "1" : null);
      put("sort", column.name);
      drawTable();
    };
    made.onkeydown = (event) => { if (event.key === "Enter") made.onclick(); };
    return made;
  }));
  document.querySelector("thead").replaceChildren(head);
  document.querySelector("tbody").replaceChildren(...orderedRows().map((i) => {
    const row = table().rows[i];
    const made = element("tr", null, ...columns.map((column) => {
      const [text, , bold] = column.cells[i];
      const cell = element("td", null, bold ? element("strong", text) : text);
      if (text.endsWith("FAIL")) cell.classList.add("fail");
      return cell;
    }));
    if (row.status !== "ok") made.classList.add("troubled");
    if (row.reason) made.title = row.reason;
    made.tabIndex = 0;
    made.onclick = () => drawRuns(i);
    made.onkeydown = (event) => { if (event.key === "Enter") drawRuns(i); };
    return made;
  }));
}

function drawColumns() {
  const chosen = new Set(shownColumns().map((column) => column.name));
  $("columns").replaceChildren(...table().columns.map((column) => {
    const box = element("input", null);
    box.type = "checkbox";
    box.checked = chosen.has(column.name);
    box.onchange = () => {
      if (box.checked) chosen.add(column.name); else chosen.delete(column.name);
      put("cols", table().columns.map((c) => c.name).filter((name) => chosen.has(name)).join(","));
      drawTable();
    };
    return element("label", null, box, " " + (column.header || column.name));
  }));
}

// ---- the plots

function layout(extra) {
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13 }, margin: { l: 60, r: 20, t: 20, b: 50 },
    legend: { orientation: "h", y: -0.22, traceorder: "normal" }, hovermode: "closest", ...extra, xaxis: { ...axis, ...extra.xaxis }, yaxis: { ...axis, ...extra.yaxis },
  };
}

function draw(id, traces, extra, bar = "hover") {
  Plotly.react(id, traces, layout(extra), { responsive: true, displaylogo: false, displayModeBar: bar, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
}

const measure = (name) => table().measures.find((one) => one.name === name);
const axisOf = (one) => ({ title: { text: escaped(one.label) }, type: one.log && one.values.every((v) => v === null || v[0] > 0) ? "log" : "linear" });
const bars = (v) => ({ type: "data", symmetric: false, array: [v[2] === null ? 0 : v[2] - v[0]], arrayminus: [v[1] === null ? 0 : v[0] - v[1]], thickness: 1.2, width: 3 });
const spread = (v) => (v[1] === null ? number(v[0]) : v[1] === v[2] ? number(v[0]) : `${number(v[0])} [${number(v[1])}, ${number(v[2])}]`);

function drawPareto() {
  const names = table().measures.map((one) => one.name);
  $("pareto").hidden = names.length < 2;
  if (names.length < 2) return;
  const y = measure(state.get("y")) || measure("score") || table().measures[0];
  const x = measure(state.get("x")) || ["trained", "peak", "step"].map(measure).find((one) => one && one !== y) || table().measures.find((one) => one !== y);
  const entries = table().measures.map((one) => [one.name, one.label]);
  options($("x"), entries, x.name);
  options($("y"), entries, y.name);
  const xaxis = axisOf(x);
  // A method that trains nothing has no place on a logarithmic axis: it stands at the left edge, and its hover says 0.
  const positive = x.values.filter((v) => v && v[0] > 0).map((v) => v[0]);
  const edge = x.log && positive.length ? Math.min(...positive) / 4 : null;
  if (edge !== null) xaxis.type = "log";
  const place = (v) => (edge !== null && v[0] <= 0 ? edge : v[0]);
  const front = table().fronts[`${x.name} ${y.name}`] || table().fronts[`${y.name} ${x.name}`] || [];
  const traces = [];
  table().rows.forEach((row, i) => {
    const [a, b] = [x.values[i], y.values[i]];
    if (!a || !b) return;
    traces.push({
      x: [place(a)], y: [b[0]], error_x: bars(a), error_y: bars(b), mode: "markers+text", text: [escaped(brief(row.label))], textposition: "top right",
      textfont: { size: 11 }, name: escaped(brief(row.label)), showlegend: false,
      marker: { size: 11, color: colour(i), symbol: MARKS[front[i]] || "diamond-open", line: { width: 2, color: colour(i) } },
      hovertemplate: `<b>${escaped(row.label)}</b><br>${escaped(x.label)}: ${spread(a)}<br>${escaped(y.label)}: ${spread(b)}<br>front: ${front[i] || "–"}<extra></extra>`,
      customdata: [i],
    });
  });
  const better = (one, p, q) => (one.up ? p > q : p < q);
  const points = table().rows.map((_, i) => [x.values[i], y.values[i]]).filter(([a, b], i) => a && b && front[i]);
  const ends = points.filter(([a, b]) => !points.some(([c, d]) => (better(x, c[0], a[0]) && !better(y, b[0], d[0])) || (better(y, d[0], b[0]) && !better(x, a[0], c[0]))));
  ends.sort((p, q) => p[0][0] - q[0][0]);
  traces.unshift({ x: ends.map(([a]) => place(a)), y: ends.map(([, b]) => b[0]), mode: "lines", line: { dash: "dot", width: 1, color: "#8a8a8a" }, hoverinfo: "skip", showlegend: false });
  draw("pareto-plot", traces, { xaxis, yaxis: axisOf(y) });
  $("pareto-plot").removeAllListeners("plotly_click");
  $("pareto-plot").on("plotly_click", (event) => { const i = event.points[0].data.customdata; if (i) drawRuns(i[0]); });
}

function drawGrowth() {
  const against = ["0", "1", "2"].includes(state.get("against")) ? Number(state.get("against")) : 1;
  const scored = table().runs.some((run) => run.curve.some((p) => p[3] !== null));  // what writes is judged by its likelihood while it trains
  const of = scored ? 3 : 4;
  const times = scored ? table().percent : 1;
  const traces = [];
  table().rows.forEach((row, i) => {
    const curves = row.runs.map((r) => table().runs[r].curve.filter((p) => p[of] !== null)).filter((curve) => curve.length);
    if (!curves.length) return;
    curves.forEach((curve) => traces.push({ x: curve.map((p) => p[against]), y: curve.map((p) => p[of] * times), mode: "lines",
      line: { color: colour(i), width: 0.8 }, opacity: 0.5, hoverinfo: "skip", showlegend: false }));
    const steps = curves[0].map((p) => p[0]).filter((step) => curves.every((curve) => curve.some((p) => p[0] === step)));
    const mean = (k) => steps.map((step) => curves.reduce((sum, curve) => sum + curve.find((p) => p[0] === step)[k], 0) / curves.length);
    traces.push({ x: mean(against), y: mean(of).map((v) => v * times), mode: "lines+markers", line: { color: colour(i), width: 2.5 }, name: escaped(brief(row.label)),
      hovertemplate: `<b>${escaped(row.label)}</b><br>%{x:,.4~g}: %{y:.4~g}<extra></extra>` });
  });
  $("growth").hidden = !traces.length;
  $("against").value = String(against);
  const unit = table().unit ? `, ${table().unit}` : "";
  const label = scored ? `validation ${table().metric}${unit}` : "validation nats per item";
  if (traces.length) draw("growth-plot", traces, { xaxis: { title: { text: $("against").selectedOptions[0].textContent } }, yaxis: { title: { text: escaped(label) } } });
}

function drawRates() {
  const traces = [];
  table().rows.forEach((row, i) => {
    const good = row.rates.filter((one) => one.nll !== null);
    if (!good.length) return;
    traces.push({
      x: good.map((one) => one.rate), y: good.map((one) => one.nll), mode: "lines+markers", name: escaped(brief(row.label)), line: { color: colour(i) },
      error_y: { type: "data", symmetric: false, array: good.map((one) => Math.max(...one.seeds) - one.nll), arrayminus: good.map((one) => one.nll - Math.min(...one.seeds)), thickness: 1 },
      marker: { size: good.map((one) => (one.rate === row.chosen ? 13 : 7)), line: { width: good.map((one) => (one.rate === row.chosen ? 2 : 0)), color: layout({}).font.color } },
      hovertemplate: `<b>${escaped(row.label)}</b><br>rate %{x:.3~g}: %{y:.4~g} nats<extra></extra>`,
    });
  });
  $("rates").hidden = !traces.length;
  if (traces.length) draw("rates-plot", traces, { xaxis: { title: { text: "learning rate" }, type: "log" }, yaxis: { title: { text: "validation nats per item" } } });
}

function drawSlowdown() {
  const kind = state.get("merged") === "merged" ? "merged" : "unmerged";
  $("merged").value = kind;
  const rows = table().rows.filter((row) => row.latency.some((cell) => cell[kind]));
  $("slowdown").hidden = !table().rows.some((row) => row.latency.some((cell) => cell.unmerged || cell.merged));
  const most = Math.max(5, ...rows.flatMap((row) => row.latency.filter((cell) => cell[kind]).map((cell) => Math.abs(cell[kind][0]))));
  document.querySelectorAll("#slowdown-plots .plot").forEach((div) => Plotly.purge(div));
  $("slowdown-plots").replaceChildren(...rows.map((_, k) => { const div = element("div", null); div.className = "plot"; div.id = `slowdown-${k}`; return div; }));
  if (!rows.length) $("slowdown-plots").append(element("p", `No method was timed ${kind}.`));
  rows.forEach((row, k) => {
    const batches = [...new Set(row.latency.map((cell) => cell.batch))].sort((a, b) => a - b);
    const lengths = [...new Set(row.latency.map((cell) => cell.length))].sort((a, b) => a - b);
    const cell = (batch, length) => { const found = row.latency.find((one) => one.batch === batch && one.length === length); return found && found[kind]; };
    const grid = (of) => batches.map((batch) => lengths.map((length) => of(cell(batch, length))));
    draw(`slowdown-${k}`, [{
      type: "heatmap", x: lengths.map(String), y: batches.map(String), z: grid((c) => (c ? c[0] : null)), text: grid((c) => (c ? `${c[0] > 0 ? "+" : ""}${c[0].toFixed(1)} ±${c[1].toFixed(1)}` : "")),
      texttemplate: "%{text}", zmin: -most, zmax: most, colorscale: [[0, "#4393c3"], [0.5, "#f7f7f7"], [1, "#d6604d"]], showscale: false, textfont: { color: "#1b1f24" },
      hovertemplate: "batch %{y}, length %{x}: %{text} %<extra></extra>",
    }], { title: { text: escaped(brief(row.label)), font: { size: 13 } }, margin: { l: 50, r: 10, t: 36, b: 40 }, xaxis: { title: { text: "length" }, type: "category" }, yaxis: { title: { text: "batch" }, type: "category" } }, false);
  });
}

function drawMemory() {
  const rows = table().rows.filter((row) => Object.keys(row.memory).length);
  $("memory").hidden = !rows.length;
  if (!rows.length) return;
  const kinds = [...new Set(rows.flatMap((row) => Object.keys(row.memory)))];
  const places = rows.map((_, i) => i);  // labels may be alike once they are cut
  draw("memory-plot", kinds.map((kind, k) => ({ type: "bar", orientation: "h", name: kind, y: places, x: rows.map((row) => row.memory[kind] || 0), marker: { color: colour(k) },
    text: rows.map((row) => escaped(row.label)), textposition: "none", hovertemplate: `%{text}<br>${escaped(kind)}: %{x:,.1f} MB<extra></extra>` })),
  { barmode: "stack", xaxis: { title: { text: "MB" } }, yaxis: { autorange: "reversed", tickvals: places, ticktext: rows.map((row) => escaped(brief(row.label))) } });
}

// ---- the runs of one row

function pairs(entries) {
  return element("dl", null, ...entries.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) =>
    [element("dt", name), element("dd", typeof value === "object" ? JSON.stringify(value) : String(value))]));
}

function drawRuns(i) {
  const row = table().rows[i];
  const runs = row.runs.map((r) => table().runs[r]);
  put("row", row.label);
  $("runs").querySelector("h2").textContent = row.label;
  $("runs-list").replaceChildren(...runs.map((run, k) => {
    const details = element("details", null, element("summary", `seed ${run.seed}: ${run.status}, run ${run.key}`));
    details.open = k === 0 || run.status !== "ok";
    if (run.reason) details.append(element("p", `${run.reason}${run.phase ? ` (${run.phase}${run.step ? ` at step ${run.step}` : ""})` : ""}`));
    details.append(pairs([["started", run.started], ["seconds in all", number(run.wall_s)], ["seconds of training", number(run.train_s)], ["learning rate", run.learning_rate], ...Object.entries(run.quality)]));
    if (run.checks.length) details.append(element("h3", "Checks"), element("ul", null, ...run.checks.map(([name, outcome, detail]) => {
      const made = element("li", `${name}: ${outcome}${detail ? `, ${detail}` : ""}`);
      if (outcome === "fail") made.classList.add("fail");
      return made;
    })));
    if (run.log.length) details.append(element("h3", "End of its log"), element("pre", run.log.join("\n")));
    details.append(element("h3", "Environment"), pairs(Object.entries(page.environments[run.environment])));
    return details;
  }), element("h3", "Settings of the table"), pairs(Object.entries(table().settings)));
  if (!runs.length) $("runs-list").prepend(element("p", row.reason || "No run is stored for this row."));
  $("runs-plot").hidden = !runs.some((run) => run.loss.length);
  if (!$("runs").open) $("runs").showModal();
  if (!$("runs-plot").hidden) draw("runs-plot", runs.map((run, k) => ({ x: run.loss.map((p) => p[0]), y: run.loss.map((p) => p[1]), mode: "lines", name: `seed ${run.seed}`, line: { color: colour(k), width: 1.2 } })),
    { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "training loss" } } });
}

// ---- all together

function drawPlots() { drawPareto(); drawGrowth(); drawRates(); drawSlowdown(); drawMemory(); }

function drawAll() {
  options($("which"), page.tables.map((one, i) => [String(i), one.title]), state.get("t") || "0");
  $("caption").textContent = table().caption;
  $("filter").value = state.get("filter") || "";
  $("baselines").checked = state.get("baselines") !== "0";
  $("footnotes").replaceChildren(...table().footnotes.map((note) => element("li", note)));
  $("settings").replaceWith(Object.assign(pairs(Object.entries(table().settings)), { id: "settings" }));
  drawColumns();
  drawTable();
  drawPlots();
}

function setTheme(name) { document.documentElement.dataset.theme = name; }

const onChange = (id, name, then) => { $(id).addEventListener(id === "filter" ? "input" : "change", () => { put(name, $(id).value); then(); }); };
onChange("filter", "filter", drawTable);
onChange("x", "x", drawPareto);
onChange("y", "y", drawPareto);
onChange("against", "against", drawGrowth);
onChange("merged", "merged", drawSlowdown);
$("baselines").onchange = () => { put("baselines", $("baselines").checked ? null : "0"); drawTable(); };
$("which").onchange = () => { const chosen = $("which").value; ["sort", "desc", "cols", "x", "y", "row"].forEach((name) => put(name, null)); put("t", chosen); drawAll(); };
$("theme").onclick = () => { const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; put("theme", other); setTheme(other); drawPlots(); };
$("link").onclick = async () => {
  try { await navigator.clipboard.writeText(location.href); $("link").textContent = "Copied"; } catch { prompt("This view:", location.href); }
  setTimeout(() => { $("link").textContent = "Copy link"; }, 1500);
};
$("runs").addEventListener("close", () => put("row", null));
window.addEventListener("hashchange", () => location.reload());

setTheme(state.get("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
if (page.tables.length) {
  drawAll();
  const opened = table().rows.findIndex((row) => row.label === state.get("row"));
  if (opened >= 0) drawRuns(opened);
} else {
  $("caption").textContent = "There is no comparison to show.";
  document.querySelectorAll("section").forEach((one) => { one.hidden = true; });
}
document.documentElement.dataset.drawnMs = String(Math.round(performance.now()));
