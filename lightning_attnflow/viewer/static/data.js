// Decodes records and reads them from the page itself or from TensorBoard.

/** A float16 as a number. */
export function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The numbers of a packed array: { dtype, shape, data } with base64 data. */
export function decodeArray(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index += 1) bytes[index] = text.charCodeAt(index);
  const view = new DataView(bytes.buffer);
  const size = { f4: 4, f2: 2, u2: 2, u1: 1 }[packed.dtype];
  if (!size) throw new Error(`unknown type of numbers ${packed.dtype}`);
  if (size === 1) return bytes;
  const count = bytes.length / size;
  const numbers = packed.dtype === "u2" ? new Uint16Array(count) : new Float32Array(count);
  for (let index = 0; index < count; index += 1) {
    if (packed.dtype === "f4") numbers[index] = view.getFloat32(4 * index, true);
    else if (packed.dtype === "u2") numbers[index] = view.getUint16(2 * index, true);
    else numbers[index] = fromHalf(view.getUint16(2 * index, true));
  }
  return numbers;
}

/** The edges of dense layers (L, n, n), without zeros, the strongest first. */
export function denseEdges(all, n, coverage) {
  const layers = [];
  const size = n * n;
  for (let layer = 0; layer * size < all.length; layer += 1) {
    const cells = [];
    for (let cell = 0; cell < size; cell += 1) if (all[layer * size + cell] !== 0) cells.push(cell);
    cells.sort((a, b) => Math.abs(all[layer * size + b]) - Math.abs(all[layer * size + a]));
    layers.push({
      query: Uint16Array.from(cells, (cell) => Math.floor(cell / n)),
      key: Uint16Array.from(cells, (cell) => cell % n),
      value: Float32Array.from(cells, (cell) => all[layer * size + cell]),
      coverage: coverage(layer),
    });
  }
  return layers;
}

/** The edges of every layer as { query, key, value, coverage }, the strongest first. */
export function decodeEdges(packed, n) {
  if (packed.dense) return denseEdges(decodeArray(packed.dense), n, (layer) => packed.coverage[layer]);
  const layers = [];
  const [query, key, value] = [packed.query, packed.key, packed.value].map(decodeArray);
  let start = 0;
  packed.n.forEach((count, layer) => {
    const end = start + count;
    layers.push({
      query: query.subarray(start, end),
      key: key.subarray(start, end),
      value: value.subarray(start, end),
      coverage: packed.coverage[layer],
    });
    start = end;
  });
  return layers;
}

/** One flow of a sentence at one step: rows are layers, from the words to the readout. */
export class Flow {
  constructor(kind, record, n) {
    Object.assign(this, { kind, n, signed: record.signed, unit: record.unit, layers: record.layers });
    this.rows = record.layers.length;
    this.values = decodeArray(record.values);
    this.lower = record.lower ? decodeArray(record.lower) : null;
    this.upper = record.upper ? decodeArray(record.upper) : null;
    this.rangeName = record.range_name ?? "";
    this.error = record.error ?? null;
    this.edgeError = record.edge_error ?? null;
    this.saturation = record.saturation ?? null;
    this.total = record.total ?? null;
    this.target = record.target ?? null;
    this.hasEdges = Boolean(record.has_edges);
    this.nHeads = record.n_heads ?? 0;
    this.withoutHeads = record.without_heads ?? (kind === "attention" && !this.nHeads ? "This record holds no single heads." : "");
  }

  at(row, index) {
    return this.values[row * this.n + index];
  }

  range(row, index) {
    const cell = row * this.n + index;
    return this.lower ? [this.lower[cell], this.upper[cell]] : null;
  }

  /** Sum of the absolute values of a row. */
  variation(row) {
    let sum = 0;
    for (let index = 0; index < this.n; index += 1) sum += Math.abs(this.at(row, index));
    return sum;
  }

  /** Share of a word in the total variation of a row. */
  share(row, index) {
    return Math.abs(this.at(row, index)) / (this.variation(row) || 1);
  }

  /** Why a row must not be read as importance, or null. */
  warning(row) {
    if (this.saturation && this.saturation[row] >= 0.5) return "saturated";
    if (!this.lower) return null;
    let width = 0;
    let upper = 0;
    for (let index = 0; index < this.n; index += 1) {
      const [low, high] = this.range(row, index);
      width += high - low;
      upper += high;
    }
    return upper > 0 && width / upper >= 0.9 ? "wide range" : null;
  }
}

/** A flow with other values, without their ranges and errors. */
export function plainFlow(like, fields) {
  return Object.assign(Object.create(Flow.prototype), like, { lower: null, upper: null, error: null, saturation: null, derived: true }, fields);
}

/** All steps of a sentence with decoded flows. */
export function decodeSentence(document) {
  const steps = document.steps.map((record) => {
    const n = record.words.length;
    const flows = {};
    for (const [kind, flow] of Object.entries(record.flows)) flows[kind] = new Flow(kind, flow, n);
    return { ...record, n, flows };
  });
  return { name: document.name, steps };
}

/** Rollout sends the flow of a word down in proportion to its attention. */
export function rolloutEdges(attention, rollout) {
  return attention.map((layer, index) => ({
    ...layer,
    value: layer.value.map((weight, edge) => weight * rollout.at(index + 1, layer.query[edge])),
  }));
}

/** Reads the documents that are part of the page. */
export function embeddedSource(text) {
  const runs = JSON.parse(text);
  return {
    live: false,
    runs: async () => Object.keys(runs),
    index: async (run) => runs[run].index,
    sentence: async (run, name) => runs[run].sentences[name],
    edges: async (run, name, step) => runs[run].edges[name]?.[String(step)] ?? {},
  };
}

/** Reads the documents from the routes of the TensorBoard plugin. */
export function httpSource(base) {
  const get = async (route, parameters = {}) => {
    const query = new URLSearchParams(parameters).toString();
    const response = await fetch(`${base}${route}${query ? `?${query}` : ""}`);
    const body = await response.json();
    if (!response.ok) throw new Error(body.error ?? `${route}: status ${response.status}`);
    return body;
  };
  return {
    live: true,
    runs: () => get("runs"),
    index: (run) => get("index", { run }),
    sentence: (run, name) => get("sentence", { run, name }),
    edges: (run, name, step) => get("edges", { run, name, step }),
  };
}
