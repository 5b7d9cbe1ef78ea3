// Moving over the map other than by a mouse: keys, buttons, fingers.

const PAN = 0.2; // of what is seen
const ZOOM = 1.5;

export function steer(plot, canvas, root, onZoom) {
  const go = (dx, dy, factor = 1) => {
    const distance = plot.get("cameraDistance");
    const [x, y] = plot.get("cameraTarget");
    // Without a transition: nothing moves for those who do not want it, and a million points need no more frames.
    plot.zoomToLocation([x + dx * distance, y + dy * distance], distance * factor);
    settle();
  };
  // From so far away, all is seen: the plot fits the height, and a phone's screen is narrower.
  const home = () => Math.max(1, canvas.clientHeight / canvas.clientWidth);
  const reset = () => {
    plot.zoomToLocation([0, 0], home());
    settle();
  };
  let settling = 0;
  const settle = () => {
    clearTimeout(settling);
    settling = setTimeout(onZoom, 150);
  };
  plot.subscribe("view", settle);
  const moves = {
    ArrowLeft: () => go(-PAN, 0),
    ArrowRight: () => go(PAN, 0),
    ArrowUp: () => go(0, PAN),
    ArrowDown: () => go(0, -PAN),
    "+": () => go(0, 0, 1 / ZOOM),
    "=": () => go(0, 0, 1 / ZOOM),
    "-": () => go(0, 0, ZOOM),
    0: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in moves)) return;
    event.preventDefault();
    moves[event.key]();
  });
  for (const button of root.querySelectorAll("[data-key]")) {
    button.addEventListener("click", () => moves[button.dataset.key]());
  }
  withFingers(canvas);
  reset();
}

function afterFrames(count, then) {
  requestAnimationFrame(() => (count > 1 ? afterFrames(count - 1, then) : then()));
}

// The scatter plot knows the mouse alone: a finger is told to it as a mouse, two fingers as its wheel.
function withFingers(canvas) {
  const fingers = new Map();
  let apart = 0;
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  };
  const tell = (type, { clientX, clientY }, more = {}) => {
    const told = type === "wheel" ? WheelEvent : MouseEvent;
    canvas.dispatchEvent(new told(type, { bubbles: true, cancelable: true, clientX, clientY, buttons: 1, ...more }));
  };
  const down = (event) => {
    if (event.pointerType === "mouse") return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    if (fingers.size === 1) {
      tell("mouseenter", event);
      tell("mousemove", event, { buttons: 0 });
      // The plot looks where the mouse is once a frame: pressed at once, it would seem dragged here from afar.
      afterFrames(2, () => fingers.size === 1 && tell("mousedown", event));
    } else {
      tell("mouseup", event);
      apart = spread();
    }
  };
  const move = (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, event);
    if (fingers.size === 1) {
      tell("mousemove", event);
    } else {
      tell("wheel", event, { deltaY: apart - spread() });
      apart = spread();
    }
  };
  const up = (event) => {
    if (fingers.delete(event.pointerId) && !fingers.size) tell("mouseup", event, { buttons: 0 });
  };
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
}
