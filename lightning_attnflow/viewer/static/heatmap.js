// The heat map: words x layers, the layer next to the readout on top.
import { matrixFlow } from "./attention.js";
import { el, hatchPattern, shorten, svg, textWidth } from "./dom.js";
import { columns, legend, wordLabels } from "./network.js";
import { cellNumber, colour, formatValue, ink, percent, rowName, shade } from "./scale.js";

/** Draw the heat map of one panel into a container. */
export function renderHeatmap(container, panel, state, actions) {
  const { step, scale } = panel;
  const shown = state.window(step.n);
  const flow = panel.flow.single ? matrixFlow(panel.flow, panel.edges[0], step.words, shown) : panel.flow;
  const pick = (row) => !flow.single && actions.layer(flow.layers[row]);
  const drawing = el("div", { class: "drawing" });
  container.append(drawing);
  const width = Math.max(320, drawing.clientWidth || 700);
  const names = Array.from({ length: flow.rows }, (_, row) => shorten(rowName(flow, row), 18));
  const geometry = columns(width, shown, Math.max(76, ...names.map((name) => textWidth(name) + 14)));
  const rowHeight = Math.max(20, Math.min(44, (state.height - 150) / flow.rows));
  const y = (row) => 4 + (flow.rows - 1 - row) * rowHeight;
  const tip = el("div", { class: "tip", role: "status" });
  const parts = [];
  for (let row = 0; row < flow.rows; row += 1) {
    const warning = flow.warning(row);
    parts.push(svg("text", { x: 0, y: y(row) + rowHeight / 2 + 4, class: `row-name${!flow.single && row === state.row(flow) ? " current" : ""}`, onclick: () => pick(row) }, names[row]));
    for (let index = shown.start; index < shown.start + shown.count; index += 1) {
      const value = flow.at(row, index);
      const tone = shade(value, flow, scale);
      const x = geometry.center(index) - geometry.column / 2;
      const cell = svg("rect", { x: x + 0.5, y: y(row) + 0.5, width: Math.max(1, geometry.column - 1), height: rowHeight - 1, rx: 2, class: "cell", "data-row": row, "data-index": index, "data-value": value, style: { fill: colour(tone) } });
      cell.addEventListener("mouseenter", () => tip.replaceChildren(cellText(row, index)));
      cell.addEventListener("click", () => pick(row));
      parts.push(cell);
      if (geometry.column >= 44) parts.push(svg("text", { x: geometry.center(index), y: y(row) + rowHeight / 2 + 4, class: "cell-text", style: { fill: warning ? "var(--muted)" : ink(tone) } }, cellNumber(value, flow)));
    }
    if (warning) {
      const middle = geometry.offset + (geometry.column * shown.count) / 2;
      parts.push(svg("rect", { x: geometry.offset, y: y(row) + 0.5, width: geometry.column * shown.count, height: rowHeight - 1, class: "hatched", fill: `url(#hatch-heat-${panel.id})` }));
      parts.push(svg("text", { x: middle, y: y(row) + rowHeight / 2 + 4, class: "warning-text" }, warning === "saturated" ? "saturated: not importance" : "range covers nearly everything"));
    }
  }
  const base = 4 + flow.rows * rowHeight + 18;
  const { labels, height } = wordLabels(step, geometry, shown, base, () => {}, () => {});
  drawing.append(svg("svg", { width, height: base + height, class: "canvas", role: "img", "aria-label": `heat map of ${step.n} words and ${flow.rows} rows` }, hatchPattern(`hatch-heat-${panel.id}`), parts, labels));
  tip.replaceChildren(el("span", { class: "muted" }, flow.single ? "The word of a row attends to the words of the columns." : "Point at a cell for its value."));
  drawing.append(el("div", { class: "below" }, tip, legend(flow, scale)));

  function cellText(row, index) {
    const range = flow.range(row, index);
    const text = [`${flow.single ? `${rowName(flow, row)} → ${step.words[index]}` : `${step.words[index]}, ${rowName(flow, row)}`}: ${formatValue(flow.at(row, index), flow, 4)}`];
    if (range) text.push(`${flow.rangeName} ${formatValue(range[0], flow, 4)} to ${formatValue(range[1], flow, 4)}`);
    if (flow.error) text.push(`sum ${formatValue(rowSum(flow, row), flow, 3)}, conservation error ${percent(flow.error[row], 2)}`);
    if (flow.saturation) text.push(`${percent(flow.saturation[row])} of the words decided by a trivial cut`);
    return el("span", {}, text.join(" · "));
  }
}

function rowSum(flow, row) {
  let sum = 0;
  for (let index = 0; index < flow.n; index += 1) sum += flow.at(row, index);
  return sum;
}
