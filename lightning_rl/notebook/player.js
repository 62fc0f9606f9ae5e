// Plays an episode in a notebook's output. All that it shows comes with it, so that it needs no
// kernel; without this script the still picture that it replaces is left.
// `episode` is what player.py makes of a record: one entry for each frame in every list.
(function (episode) {
  "use strict";
  const root = document.currentScript.parentElement.querySelector(".lightning-rl-player");
  root.className = "lightning-rl-playing"; // the next script finds its own
  const last = episode.pictures.length - 1;
  const WIDTH = 320, LEFT = 90, RIGHT = 70; // pixels: of a plot, of what is beside its bars

  function element(parent, name, attributes = {}, text = "") {
    const isSvg = ["svg", "g", "rect", "line", "polyline", "text"].includes(name);
    const made = isSvg
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    parent.appendChild(made);
    return made;
  }

  function plot(parent, height, { title, hint }) {
    const box = element(parent, "div", { title: hint });
    const heading = element(box, "div", { style: "margin: 0 0 8px" }, title);
    const svg = element(box, "svg", {
      width: WIDTH, height: height, fill: "currentColor", "font-size": 11, role: "img",
      "aria-label": title, style: "display: block; overflow: visible; margin-bottom: 14px",
    });
    return [svg, heading];
  }

  // What the agent thinks of each action: a bar for each; gives a function that shows frame i.
  function bars(parent, policy) {
    const row = Math.max(9, Math.min(24, 150 / policy.names.length));
    const [svg] = plot(parent, row * policy.names.length, policy);
    const place = (value) =>
      LEFT + ((WIDTH - LEFT - RIGHT) * (value - policy.low)) / (policy.high - policy.low);
    const rows = policy.names.map((name, k) => {
      const group = element(svg, "g", { transform: `translate(0 ${k * row})` });
      element(group, "text", { x: LEFT - 6, y: 0.7 * row, "text-anchor": "end" }, name);
      element(group, "rect", { x: LEFT, y: 1, height: row - 2, width: WIDTH - LEFT - RIGHT,
        opacity: 0.1 });
      const bar = element(group, "rect", { y: 1, height: row - 2 });
      const spread = element(group, "line", { y1: row / 2, y2: row / 2, stroke: "currentColor" });
      const number = element(group, "text", { x: WIDTH - RIGHT + 6, y: 0.7 * row });
      return { bar, spread, number };
    });
    element(svg, "line", { x1: place(0), x2: place(0), y1: 0, y2: row * rows.length,
      stroke: "currentColor" });
    return (i) => rows.forEach(({ bar, spread, number }, k) => {
      const value = policy.heights[i][k], deviation = policy.spreads ? policy.spreads[i][k] : 0;
      bar.setAttribute("x", Math.min(place(0), place(value)));
      bar.setAttribute("width", Math.abs(place(value) - place(0)));
      bar.setAttribute("fill", policy.taken[i] === k ? episode.colors[1] : episode.colors[0]);
      spread.setAttribute("x1", place(value - deviation));
      spread.setAttribute("x2", place(value + deviation));
      number.textContent = value + (policy.spreads ? ` ± ${deviation}` : "");
    });
  }

  // A number over the whole episode; gives a function that puts a line at frame i.
  function curve(parent, { title, hint, values, low, high }) {
    const height = 70, [svg, heading] = plot(parent, height, { title, hint });
    const x = (i) => 40 + ((WIDTH - 50) * i) / Math.max(last, 1);
    const y = (value) => height - (height * (value - low)) / (high - low);
    for (const limit of [low, high]) {
      element(svg, "line", { x1: 40, x2: WIDTH - 10, y1: y(limit), y2: y(limit),
        stroke: "currentColor", opacity: 0.3 });
      element(svg, "text", { x: 34, y: y(limit) + 4, "text-anchor": "end" }, limit);
    }
    const points = values.map((value, i) => `${x(i)},${y(value)}`).join(" ");
    element(svg, "polyline", { points, fill: "none", "stroke-width": 2,
      stroke: episode.colors[2] });
    const now = element(svg, "line", { y1: 0, y2: height, stroke: "currentColor" });
    return (i) => {
      now.setAttribute("x1", x(i));
      now.setAttribute("x2", x(i));
      heading.textContent = `${title}: ${values[i]}`;
    };
  }

  root.textContent = "";
  root.style.cssText =
    "display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: flex-start; font-size: 13px";
  const { width, height } = episode.size;
  const left = element(root, "div", { style: `flex: 0 1 ${width}px; min-width: 0` });
  const edge = "outline: 1px solid rgb(128 128 128 / 50%); outline-offset: -1px";
  const size = `width: 100%; height: auto; display: block; ${edge}`;
  const picture = element(left, "img", { alt: "the environment", width, height, style: size });
  const slider = element(left, "input", { type: "range", min: 0, max: last, value: 0,
    "aria-label": "env step", title: "The env step: drag it, or use the arrow keys", style: "width: 100%; margin: 8px 0 4px; box-sizing: border-box" });
  const play = element(left, "button", { type: "button", title: "From here on, as fast as the environment's time",
    style: "margin-right: 8px" }, "▶ Play");
  const caption = element(left, "span");
  const right = element(root, "div", { style: `flex: 0 0 ${WIDTH}px` });
  const plots = [
    ...(episode.policy ? [bars(right, episode.policy)] : []),
    ...episode.curves.map((one) => curve(right, one)),
  ];

  function show(i) {
    picture.src = `data:image/webp;base64,${episode.pictures[i]}`;
    caption.textContent = episode.captions[i];
    slider.value = i;
    plots.forEach((draw) => draw(i));
  }
  let timer = null;
  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play";
  }
  function advance() {
    if (!root.isConnected || Number(slider.value) === last) pause();
    else show(Number(slider.value) + 1);
  }
  slider.addEventListener("input", () => show(Number(slider.value)));
  play.addEventListener("click", () => {
    if (timer !== null) return pause();
    if (Number(slider.value) === last) show(0);
    timer = setInterval(advance, episode.interval);
    play.textContent = "❚❚ Pause";
  });
  show(0);
})
