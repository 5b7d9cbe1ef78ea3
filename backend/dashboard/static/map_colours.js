// What a colour means: by kind, by uncertainty or by class. The colours themselves are the style sheet's.
import { OTHER, UNKNOWN } from "./map_points.js";

// For each way of colouring: the `column` of the points, what its `values` become as positions in `colours`, and the
// `names` of these.
export function palettes(root, points) {
  const style = getComputedStyle(root);
  const colours = (name) => style.getPropertyValue(name).trim().split(/\s+/);
  const [faint] = colours("--map-pool");
  const ramp = colours("--map-ramp");
  const hues = colours("--map-classes");
  const classes = points.classes;
  const others = points.class.includes(OTHER) ? ["another"] : [];
  return {
    kind: {
      column: points.kind,
      values: (kinds) => kinds,
      colours: points.kinds.map((kind) => colours(`--map-${kind}`)[0]),
      names: points.kinds,
    },
    uncertainty: {
      column: points.uncertainty,
      values: (shares) => shares.map((share) => (share === UNKNOWN ? 0 : 1 + Math.floor((share * ramp.length) / UNKNOWN))),
      colours: [faint, ...ramp],
      names: ["not asked", ...ramp.map((_, i) => (i === 0 ? "certain" : i === ramp.length - 1 ? "most uncertain" : ""))],
    },
    class: {
      column: points.class,
      values: (numbers) => numbers.map((number) => (number === UNKNOWN ? 0 : number === OTHER ? classes.length + 1 : number + 1)),
      colours: [faint, ...classes.map((_, i) => hues[i]), ...others.map(() => hues.at(-1))],
      names: ["none known", ...classes, ...others],
    },
  };
}
