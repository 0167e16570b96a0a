// Selects the strongest edges, and follows the flow through a node. Pure functions without a document.

/**
 * The edges between visible words that together carry `share` of the flow between them: `shown` is the share that they
 * carry, `outside` the share of the whole flow that leads to or from other words, `stored` what the record holds.
 */
export function strongestEdges(layers, share, visible = () => true, limit = 6000) {
  const all = [];
  let [inside, stored, whole] = [0, 0, 0];
  layers.forEach((layer, index) => {
    let sum = 0;
    for (let edge = 0; edge < layer.value.length; edge += 1) {
      const [query, key, value] = [layer.query[edge], layer.key[edge], layer.value[edge]];
      sum += Math.abs(value);
      if (!visible(query) || !visible(key)) continue;
      inside += Math.abs(value);
      all.push({ layer: index, query, key, value });
    }
    stored += sum;
    whole += layer.coverage > 0 ? sum / layer.coverage : sum;
  });
  all.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const edges = [];
  let carried = 0;
  for (const edge of all) {
    if (edges.length >= limit || (edges.length > 0 && carried >= share * inside)) break;
    edges.push(edge);
    carried += Math.abs(edge.value);
  }
  const part = (amount, of) => (of > 0 ? amount / of : 1);
  return { edges, shown: part(carried, inside), outside: stored > 0 ? 1 - inside / stored : 0, stored: part(stored, whole), count: all.length };
}

/**
 * How much of the flow through a node passes each edge, in [0, 1]: from the words up to the node, and from the node up
 * to the readout. `weights[row][index]` is the same of the nodes; row 0 holds the words.
 */
export function traceNode(layers, row, index, n) {
  const rows = layers.length + 1;
  const weights = Array.from({ length: rows }, () => new Float64Array(n));
  const edgeWeights = layers.map((layer) => new Float64Array(layer.value.length));
  weights[row][index] = 1;
  const spread = (layer, from, to, origin, target) => {
    const { value } = layers[layer];
    const sums = new Float64Array(n);
    value.forEach((amount, edge) => (sums[origin[edge]] += Math.abs(amount)));
    value.forEach((amount, edge) => {
      const source = weights[from][origin[edge]];
      if (!source || !sums[origin[edge]]) return;
      const part = (source * Math.abs(amount)) / sums[origin[edge]];
      edgeWeights[layer][edge] = part;
      weights[to][target[edge]] += part;
    });
  };
  for (let layer = row - 1; layer >= 0; layer -= 1) {
    spread(layer, layer + 1, layer, layers[layer].query, layers[layer].key);
  }
  for (let layer = row; layer < layers.length; layer += 1) {
    spread(layer, layer, layer + 1, layers[layer].key, layers[layer].query);
  }
  return { weights, edgeWeights };
}

/** Edges into a node from below, or out of it upwards, the strongest first. */
export function neighbours(layers, row, index) {
  const collect = (layer, own, other) => {
    if (!layers[layer]) return [];
    const found = [];
    layers[layer].value.forEach((value, edge) => {
      if (layers[layer][own][edge] === index) found.push({ index: layers[layer][other][edge], value });
    });
    return found.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  };
  return { inflows: collect(row - 1, "query", "key"), outflows: collect(row, "key", "query") };
}
