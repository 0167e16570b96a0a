// The flow network: words at the bottom, one row per layer, the readout on top; edges carry the flow upwards.
import { explained } from "./describe.js";
import { el, hatchPattern, shorten, svg, textWidth } from "./dom.js";
import { cellNumber, colour, formatValue, ink, isEmpty, kindName, percent, rowName, shade, short } from "./scale.js";
import { neighbours, strongestEdges, traceNode } from "./trace.js";

const GUTTER = 76;
const LONGEST_LABEL = 18;
const WIDEST_EDGE = 18;

/** Horizontal geometry of the visible words. */
export function columns(width, shown, gutter = GUTTER) {
  const column = Math.min(118, (width - gutter - 8) / shown.count);
  const offset = gutter + Math.max(0, (width - gutter - 8 - column * shown.count) / 2);
  return { column, offset, center: (index) => offset + (index - shown.start + 0.5) * column };
}

/** Labels of the visible words under a drawing; slanted if they are wide, omitted if columns are narrow. */
export function wordLabels(step, geometry, shown, y, onHover, onPick) {
  const names = [];
  for (let index = shown.start; index < shown.start + shown.count; index += 1) names.push(shorten(step.words[index], LONGEST_LABEL));
  const widest = Math.max(...names.map((name) => textWidth(name)));
  const slanted = widest > geometry.column - 6;
  const upright = geometry.column < 18; // slanted labels would overlap
  const every = Math.max(1, Math.ceil(12 / geometry.column));
  const labels = names.map((name, place) => {
    const index = shown.start + place;
    if (place % every) return null;
    const x = geometry.center(index);
    const slope = upright ? `translate(4 -6) rotate(-90 ${x} ${y})` : `rotate(-45 ${x} ${y})`;
    const shift = slanted ? { transform: slope, "text-anchor": "end" } : { "text-anchor": "middle" };
    return svg(
      "text",
      { x, y, class: `word${step.special[index] ? " special" : ""}${upright ? " small" : ""}`, ...shift, onmouseenter: () => onHover(index), onmouseleave: () => onHover(null), onclick: () => onPick(index) },
      name,
    );
  });
  const height = slanted ? Math.min(118, 16 + widest * (upright ? 0.85 : 0.75)) : 22;
  return { labels, height };
}

function nodeText(flow, step, row, index) {
  const range = flow.range(row, index);
  const lines = [el("div", { class: "detail-value" }, formatValue(flow.at(row, index), flow, 4))];
  if (range) lines.push(el("div", { class: "detail-note" }, `${flow.rangeName}: ${formatValue(range[0], flow, 4)} to ${formatValue(range[1], flow, 4)}`));
  lines.push(el("div", { class: "detail-note" }, `${percent(flow.share(row, index), 1)} of the flow of this layer`));
  if (flow.error) lines.push(el("div", { class: "detail-note" }, `conservation error of the layer ${percent(flow.error[row], 2)}`));
  return [el("h3", {}, step.words[index], el("small", {}, rowName(flow, row))), ...lines];
}

function neighbourList(title, list, step, flow) {
  if (!list.length) return null;
  const largest = Math.abs(list[0].value) || 1;
  const style = { ...flow };
  const rows = list.slice(0, 6).map(({ index, value }) => {
    const width = `${(100 * Math.abs(value)) / largest}%`;
    const tone = flow.signed ? (value >= 0 ? "support" : "oppose") : "flow";
    return el(
      "li",
      {},
      el("span", { class: "who" }, step.words[index]),
      el("span", { class: "amount" }, formatValue(value, style, 3)),
      el("i", { class: `meter ${tone}`, style: { width } }),
    );
  });
  const rest = list.length - rows.length;
  return [el("h4", {}, title), el("ol", {}, rows), rest > 0 ? el("div", { class: "detail-note" }, `and ${rest} smaller`) : null];
}

/** Draw the network of one panel into a container. */
export function renderNetwork(container, panel, state, actions) {
  const { step, flow, edges, scale } = panel;
  const drawing = el("div", { class: "drawing" });
  const detail = el("aside", { class: "detail", "aria-live": "polite" });
  container.append(el("div", { class: "network" }, drawing, detail));
  const width = Math.max(320, drawing.clientWidth || 700);
  const shown = state.window(step.n);
  const geometry = columns(width, shown);
  const rowHeight = Math.max(36, Math.min(flow.single ? 240 : 72, (state.height - 120) / (flow.rows + 0.6)));
  const top = 26;
  const y = (row) => top + (flow.rows - row - (flow.single ? 1 : 0)) * rowHeight;
  const nodeWidth = Math.max(2, Math.min(46, geometry.column - 4));
  const numbered = geometry.column >= 44;
  const nodeHeight = numbered ? 19 : 12;
  const visible = (index) => index >= shown.start && index < shown.start + shown.count;

  const empty = isEmpty(flow);
  const layers = empty ? [] : (edges ?? []);
  const chosen = strongestEdges(layers, state.share, visible);
  const unit = flow.signed ? scale : 1;
  const edgeTone = (value) => (panel.neutralEdges ? "neutral" : !flow.signed ? "flow" : value >= 0 ? "support" : "oppose");
  const edgeNodes = [];
  const addEdge = (x1, y1, x2, y2, value, key) => {
    const strength = Math.abs(value) / unit;
    const middle = (y1 + y2) / 2;
    const line = svg("path", {
      d: `M${x1.toFixed(1)},${y1.toFixed(1)}C${x1.toFixed(1)},${middle} ${x2.toFixed(1)},${middle} ${x2.toFixed(1)},${y2.toFixed(1)}`,
      class: `edge ${edgeTone(value)}`,
      "stroke-width": Math.max(0.9, Math.min(WIDEST_EDGE, WIDEST_EDGE * strength)).toFixed(2),
    });
    edgeNodes.push({ line, ...key });
    return line;
  };
  // the trace refers to the stored edges, so remember where each chosen edge is stored
  const place = layers.map((layer) => new Map(Array.from(layer.value, (_, edge) => [layer.query[edge] * step.n + layer.key[edge], edge])));
  const lines = [...chosen.edges]
    .reverse()
    .map((edge) =>
      addEdge(geometry.center(edge.key), y(edge.layer) - nodeHeight / 2, geometry.center(edge.query), y(edge.layer + 1) + nodeHeight / 2, edge.value, {
        layer: edge.layer,
        edge: place[edge.layer].get(edge.query * step.n + edge.key),
      }),
    );
  const readoutX = geometry.offset + (geometry.column * shown.count) / 2;
  const last = flow.rows - 1;
  if (flow.kind !== "attention") {
    for (let index = shown.start; index < shown.start + shown.count; index += 1) {
      const value = flow.at(last, index);
      if (Math.abs(value) / unit < 0.02) continue;
      lines.push(addEdge(geometry.center(index), y(last) - nodeHeight / 2, readoutX, top + 11, value, { layer: layers.length, index }));
    }
  }

  const nodes = [];
  const hatched = [];
  for (let row = 0; row < flow.rows; row += 1) {
    if (flow.warning(row)) {
      hatched.push(svg("rect", { x: geometry.offset, y: y(row) - nodeHeight / 2 - 5, width: geometry.column * shown.count, height: nodeHeight + 10, class: "hatched", fill: `url(#hatch-${panel.id})` }));
    }
    for (let index = shown.start; index < shown.start + shown.count; index += 1) {
      const value = flow.at(row, index);
      const tone = shade(value, flow, scale);
      const group = svg(
        "g",
        { class: `node${step.special[index] ? " special" : ""}`, "data-row": row, "data-index": index, "data-value": value },
        svg("rect", { x: geometry.center(index) - nodeWidth / 2, y: y(row) - nodeHeight / 2, width: nodeWidth, height: nodeHeight, rx: Math.min(6, nodeWidth / 3), style: { fill: colour(tone) } }),
        numbered && svg("text", { x: geometry.center(index), y: y(row) + 3.8, style: { fill: ink(tone) } }, cellNumber(value, flow)),
      );
      group.addEventListener("mouseenter", () => highlight(row, index));
      group.addEventListener("mouseleave", () => restore());
      group.addEventListener("click", (event) => {
        event.stopPropagation();
        actions.pin(state.pinned && state.pinned.row === row && state.pinned.index === index ? null : { row, index });
      });
      nodes.push({ group, row, index });
    }
  }
  const prediction = step.prediction ? `${step.prediction.class}  ${percent(step.prediction.probability, 1)}` : (flow.target ?? "readout");
  const pill = Math.max(90, textWidth(prediction, 13) + 28);
  const readout = !flow.single && svg(
    "g",
    { class: "readout" },
    svg("rect", { x: readoutX - pill / 2, y: top - 15, width: pill, height: 26, rx: 13 }),
    svg("text", { x: readoutX, y: top + 2.5 }, prediction),
  );
  const gutter = [!flow.single && svg("text", { x: 0, y: top + 2, class: "row-name" }, "readout")];
  for (let row = 0; row < flow.rows; row += 1) gutter.push(svg("text", { x: 0, y: y(row) + 4, class: "row-name" }, rowName(flow, row)));
  const base = y(0) + nodeHeight / 2 + 17;
  const { labels, height } = wordLabels(step, geometry, shown, base, (index) => (index === null ? restore() : highlight(0, index)), (index) => actions.pin({ row: 0, index }));
  const picture = svg(
    "svg",
    { width, height: base + height, class: "canvas", role: "img", "aria-label": `${kindName(flow.kind)} network of ${step.n} words and ${flow.rows} rows` },
    hatchPattern(`hatch-${panel.id}`),
    hatched,
    svg("g", { class: "edges" }, lines),
    readout,
    svg("g", {}, nodes.map(({ group }) => group)),
    gutter,
    labels,
  );
  drawing.append(picture);

  function highlight(row, index) {
    const traced = layers.length ? traceNode(layers, row, index, step.n) : null;
    picture.classList.add("traced");
    for (const { line, layer, edge, index: source } of edgeNodes) {
      const weight = !traced ? 0 : layer < layers.length ? traced.edgeWeights[layer][edge] : traced.weights[last][source];
      line.style.opacity = weight > 0.004 ? Math.min(0.95, 0.25 + 0.75 * Math.sqrt(weight)) : "";
      line.classList.toggle("on", weight > 0.004);
    }
    for (const node of nodes) {
      const on = (node.row === row && node.index === index) || (traced && traced.weights[node.row][node.index] > 0.02);
      node.group.classList.toggle("on", Boolean(on));
      node.group.classList.toggle("chosen", node.row === row && node.index === index);
    }
    const { inflows, outflows } = neighbours(layers, row, index);
    const [into, out] = panel.neutralEdges ? ["Attends to", "Attended by"] : ["Flows in from", "Flows out to"];
    detail.replaceChildren(...[...nodeText(flow, step, row, index), neighbourList(out, outflows, step, edgeFlow(flow, panel)), neighbourList(into, inflows, step, edgeFlow(flow, panel))].flat().filter(Boolean));
  }
  function restore() {
    if (state.pinned && state.pinned.row < flow.rows && state.pinned.index < step.n) {
      highlight(state.pinned.row, state.pinned.index);
      return;
    }
    picture.classList.remove("traced");
    for (const { line } of edgeNodes) line.style.opacity = "";
    const total = flow.total === null ? null : el("div", { class: "detail-note" }, `Every layer sums to ${formatValue(flow.total, flow, 3)} ${flow.unit}.`);
    detail.replaceChildren(
      ...[
        el("h3", {}, kindName(flow.kind)),
        total,
        flow.error && !empty && el("div", { class: "detail-note" }, `Largest conservation error ${percent(Math.max(...flow.error), 2)}.`),
        flow.edgeError !== null && !empty && el("div", { class: "detail-note" }, `Edges out of a node sum to its value up to ${percent(flow.edgeError, 2)} of the layer.`),
        chosen.count > 0 && el("div", { class: "detail-note", "data-role": "shown" }, `${chosen.edges.length} of ${chosen.count} edges are drawn; they carry ${percent(chosen.shown)} of the flow ${chosen.outside ? "among these words" : "between layers"}.`),
        chosen.outside > 0.005 && el("div", { class: "detail-note" }, `${percent(chosen.outside)} of the flow leads to or from words outside this view.`),
        chosen.stored < 0.99 && el("div", { class: "detail-note" }, `The record holds the strongest edges: ${percent(chosen.stored)} of the flow.`),
        empty && el("div", { class: "detail-note" }, "Nothing flows from the words: all values round to 0."),
        !layers.length && !empty && flow.signed && el("div", { class: "detail-note" }, "The record holds no edges of this sentence: they are recorded for probes and for short validation sentences."),
        !layers.length && flow.kind === "attention_flow" && el("div", { class: "detail-note" }, "This flow has no edges of its own: a maximum flow is not unique."),
        hatched.length > 0 && el("div", { class: "detail-note" }, "Hatched layers are saturated, or their range covers nearly everything: do not read them as importance."),
        panel.neutralEdges && el("div", { class: "detail-note" }, panel.caption ?? "Edges are the capacities of the network: attention with the residual stream."),
        el("div", { class: "detail-note hint" }, "Point at a word or a node to follow what flows through it; click to keep it."),
      ].filter(Boolean),
    );
    detail.append(legend(flow, scale));
  }
  restore();
}

function edgeFlow(flow, panel) {
  return panel.neutralEdges ? { signed: false } : flow;
}

/** The colour scale with its ends. */
export function legend(flow, scale) {
  const bar = el("div", { class: `legend-bar ${flow.signed ? "signed" : "shares"}` });
  const ends = flow.signed
    ? [`−${short(scale)} against`, "0", `for +${short(scale)}`]
    : ["uniform share or less", "", "8 times uniform"];
  return el("div", { class: "legend" }, bar, el("div", { class: "legend-ends" }, ends.map((text) => el("span", {}, text))), el("div", { class: "detail-note" }, flow.signed ? `${explained(flow)}, the same scale at every step` : "absolute scale, the same for every row"));
}
