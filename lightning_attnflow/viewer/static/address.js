// The state of the page, and where it is kept: in its own address, or in that of TensorBoard.

const STATE_KEYS = ["run", "name", "step", "kind", "view", "layer", "head", "only", "share", "otherRun", "otherStep", "order", "start", "count", "theme"];
const NUMBERS = ["step", "layer", "head", "only", "share", "otherStep", "start", "count"];

/** The address of the page itself. */
export const OWN_ADDRESS = {
  read: () => location.hash.slice(1),
  write: (state) => {
    try {
      history.replaceState(null, "", `#${state}`);
    } catch {
      // frames of notebooks have no address of their own
    }
  },
};

/** The state in an address; unknown parameters are ignored. */
export function parseState(text) {
  const state = { view: "network", share: 0.8, order: "change" };
  for (const [key, value] of new URLSearchParams(text)) {
    if (STATE_KEYS.includes(key)) state[key] = NUMBERS.includes(key) ? Number(value) : value;
  }
  return state;
}

/** The state as parameters of an address. */
export function formatState(state) {
  const parameters = new URLSearchParams();
  for (const key of STATE_KEYS) if (state[key] !== undefined && state[key] !== null) parameters.set(key, String(state[key]));
  return String(parameters);
}
