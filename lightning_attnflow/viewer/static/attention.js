// The attention of one head, or of one layer. Pure functions without a document.
import { decodeArray, denseEdges, plainFlow } from "./data.js";

/** The attention of all heads: values[((layer * heads + head) * n + query) * n + key]. */
export function decodeHeads(packed) {
  const [layers, heads, n] = packed.shape;
  const mask = decodeArray(packed.mask);
  const stored = decodeArray(packed.value);
  const values = new Float32Array(layers * heads * n * n);
  let next = 0;
  for (let cell = 0; cell < values.length; cell += 1) {
    if (!(mask[cell >> 3] & (128 >> (cell & 7)))) continue;
    values[cell] = stored[next] / 255;
    next += 1;
  }
  return { layers, heads, n, values, coverage: packed.coverage };
}

/** The edges of one head in every layer, the strongest first. */
export function headEdges(decoded, head) {
  const size = decoded.n ** 2;
  const one = new Float32Array(decoded.layers * size);
  for (let layer = 0; layer < decoded.layers; layer += 1) {
    const start = (layer * decoded.heads + head) * size;
    one.set(decoded.values.subarray(start, start + size), layer * size);
  }
  return denseEdges(one, decoded.n, () => decoded.coverage);
}

/** Share of the attention of all words that each word receives in one layer. */
function received({ key, value }, n) {
  const shares = new Float32Array(n);
  value.forEach((weight, edge) => (shares[key[edge]] += weight / n));
  return shares;
}

/** The attention flow of one head in every layer: row l is what the words receive in layer l + 1. */
export function headFlow(flow, edges) {
  const values = Float32Array.from(flow.values);
  edges.forEach((layer, row) => values.set(received(layer, flow.n), row * flow.n));
  return plainFlow(flow, { values });
}

/** Two rows for one layer (from 1): what every word receives, and the words that attend. */
export function layerFlow(flow, edges, layer) {
  const { n } = flow;
  const values = new Float32Array(2 * n).fill(1 / n);
  values.set(received(edges[layer - 1], n), 0);
  return plainFlow(flow, { values, rows: 2, layers: [layer - 1, layer], rowNames: ["attended to", "attending"], single: true });
}

/** The attention between visible words, a row for each that attends, the first on top. */
export function matrixFlow(flow, { query, key, value }, words, shown) {
  const { n } = flow;
  const values = new Float32Array(shown.count * n);
  const rowOf = (word) => shown.start + shown.count - 1 - word;
  value.forEach((weight, edge) => {
    const row = rowOf(query[edge]);
    if (row >= 0 && row < shown.count) values[row * n + key[edge]] = weight;
  });
  const order = Array.from({ length: shown.count }, (_, row) => rowOf(row));
  return plainFlow(flow, { values, rows: shown.count, layers: order, rowNames: order.map((word) => words[word]), single: true });
}

/** What is shown of the attention: one head or the mean of all, in one layer or in all of them. */
export function chooseAttention(flow, edges, heads, { head, only }) {
  const isHead = heads !== null && head !== undefined && head < heads.heads;
  const chosen = isHead ? headEdges(heads, head) : edges;
  if (!chosen) return { flow, edges };
  const all = isHead ? headFlow(flow, chosen) : flow;
  const caption = isHead ? `Edges are the attention of head ${head + 1}, without the residual stream.` : null;
  if (only === undefined || only > chosen.length) return { flow: all, edges: chosen, caption };
  return { flow: layerFlow(all, chosen, only), edges: [chosen[only - 1]], caption };
}
