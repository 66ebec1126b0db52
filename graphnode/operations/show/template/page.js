"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { islands, nodes, links } = data;
  const element = (id) => document.getElementById(id);
  const picture = element("picture"), chosenLayer = element("chosen"), tip = element("tip");
  const search = element("search"), list = element("list"), details = element("details");

  const MOST_FOUND = 60; // listed search results
  const MOST_ZOOM = 24; // relative to the zoom that fits the picture
  const REACH = 14; // px between the pointer and the node it selects
  const NAMED_FROM = 44; // px between nodes: from here on, nodes have names

  // ---- look-ups: nodes near a point, links of a node ----

  const neighbours = nodes.map(() => []);
  links.forEach(([source, target], place) => {
    neighbours[source].push([target, place]);
    neighbours[target].push([source, place]);
  });
  const members = islands.map(() => []);
  nodes.forEach((node, place) => members[node.island].push(place));
  const byDegree = nodes.map((_, place) => place).sort((a, b) => neighbours[b].length - neighbours[a].length || a - b);
  const said = nodes.map((node) =>
    [node.title, node.id, islands[node.island].name, ...node.keywords].join("\n").toLocaleLowerCase());

  const FIELD = data.spacing * 2;
  const fields = new Map();
  const fieldOf = (x, y) => `${Math.floor(x / FIELD)},${Math.floor(y / FIELD)}`;
  nodes.forEach((node, place) => {
    const field = fieldOf(node.x, node.y);
    if (!fields.has(field)) fields.set(field, []);
    fields.get(field).push(place);
  });

  function nearest(x, y, reach) {
    let found = null, least = reach;
    for (let left = x - reach; left <= x + reach + FIELD; left += FIELD) {
      for (let top = y - reach; top <= y + reach + FIELD; top += FIELD) {
        for (const place of fields.get(fieldOf(left, top)) ?? []) {
          const distance = Math.hypot(nodes[place].x - x, nodes[place].y - y);
          if (distance < least) [found, least] = [place, distance];
        }
      }
    }
    return found;
  }

  // ---- the view: the point in the centre of the canvas, and px per unit ----

  const view = { x: data.width / 2, y: data.height / 2, zoom: 1 };
  let width = 1, height = 1, ratio = 1, fitting = 1, isFitted = true;
  const toScreen = (x, y) => [(x - view.x) * view.zoom + width / 2, (y - view.y) * view.zoom + height / 2];
  const toPicture = (x, y) => [(x - width / 2) / view.zoom + view.x, (y - height / 2) / view.zoom + view.y];

  function isInView(place) {
    const [x, y] = toScreen(nodes[place].x, nodes[place].y);
    return x > 0 && y > 0 && x < width && y < height;
  }

  function show(left, top, right, bottom, most = Infinity) {
    const zoom = Math.min((width - 48) / Math.max(right - left, 1), (height - 64) / Math.max(bottom - top, 1), most);
    Object.assign(view, { x: (left + right) / 2, y: (top + bottom) / 2, zoom });
    changed();
  }

  function fit() {
    show(0, 0, data.width, data.height, 1.8);
    fitting = view.zoom;
    isFitted = true;
  }

  function zoomBy(factor, x = width / 2, y = height / 2) {
    const [px, py] = toPicture(x, y);
    view.zoom = Math.min(Math.max(view.zoom * factor, fitting * 0.5), fitting * MOST_ZOOM);
    view.x = px - (x - width / 2) / view.zoom;
    view.y = py - (y - height / 2) / view.zoom;
    isFitted = false;
    changed();
  }

  function moveBy(x, y) {
    view.x -= x / view.zoom;
    view.y -= y / view.zoom;
    isFitted = false;
    changed();
  }

  // ---- drawing ----

  let colours = {};
  let hovered = null, chosen = null, isAwaited = false, only = "";

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    colours = { paper: colour("--paper"), ink: colour("--ink"), muted: colour("--muted"), line: colour("--line") };
    colours.of = islands.map((island) => colour(island.colour));
    changed();
  }

  // Paths are built once, in the picture's units; a frame only strokes them.
  const grounds = islands.map((island) => {
    const path = new Path2D();
    for (const [x, y] of island.outline) path.lineTo(x, y);
    path.closePath();
    return path;
  });

  function addLink(path, [source, target]) {
    const one = nodes[source], other = nodes[target];
    path.moveTo(one.x, one.y);
    if (one.island === other.island) path.lineTo(other.x, other.y);
    else {
      const a = islands[one.island], b = islands[other.island], share = data.bundle;
      path.bezierCurveTo(a.x + (b.x - a.x) * share, a.y + (b.y - a.y) * share,
        b.x + (a.x - b.x) * share, b.y + (a.y - b.y) * share, other.x, other.y);
    }
  }

  const strokes = new Map();
  for (const [place, stroke] of data.drawn) {
    const [source, target] = links[place];
    const island = nodes[source].island === nodes[target].island ? nodes[source].island : -1;
    const key = `${island} ${stroke}`;
    if (!strokes.has(key)) strokes.set(key, { island, stroke, path: new Path2D() });
    addLink(strokes.get(key).path, links[place]);
  }

  function context(layer) {
    const drawing = layer.getContext("2d");
    drawing.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawing.clearRect(0, 0, width, height);
    drawing.lineCap = drawing.lineJoin = "round";
    return drawing;
  }

  function inPicture(drawing) {
    const scale = ratio * view.zoom;
    drawing.setTransform(scale, 0, 0, scale,
      ratio * (width / 2 - view.x * view.zoom), ratio * (height / 2 - view.y * view.zoom));
  }

  const onScreen = (drawing) => drawing.setTransform(ratio, 0, 0, ratio, 0, 0);

  // When zooming in, nodes grow more slowly than the space between them.
  const radiusOf = (node) => node.radius * fitting * (view.zoom / fitting) ** 0.6;

  function addNode(path, node) {
    const [x, y] = toScreen(node.x, node.y), radius = radiusOf(node);
    if (x < -radius || y < -radius || x > width + radius || y > height + radius) return;
    const corners = data.shapes[islands[node.island].shape];
    if (!corners) {
      path.moveTo(x + radius, y);
      path.arc(x, y, radius, 0, 2 * Math.PI);
      return;
    }
    corners.forEach(([right, down], place) =>
      place ? path.lineTo(x + right * radius, y + down * radius) : path.moveTo(x + right * radius, y + down * radius));
    path.closePath();
  }

  // Labels do not overlap: the first one takes the space.
  class Room {
    constructor() { this.taken = []; }
    take(left, top, right, bottom) {
      if (this.taken.some((box) => left < box[2] && box[0] < right && top < box[3] && box[1] < bottom)) return false;
      this.taken.push([left, top, right, bottom]);
      return true;
    }
  }

  function write(drawing, text, x, y, colour) {
    drawing.strokeStyle = colours.paper;
    drawing.lineWidth = 3;
    drawing.strokeText(text, x, y);
    drawing.fillStyle = colour;
    drawing.fillText(text, x, y);
  }

  const font = (size, weight) => `${weight} ${size}px "Noto Sans", "Noto Sans CJK KR", "Helvetica Neue", "Segoe UI", Arial, sans-serif`;

  function drawPicture() {
    const drawing = context(picture);
    inPicture(drawing);
    islands.forEach((island, number) => {
      drawing.globalAlpha = 0.1;
      drawing.fillStyle = colours.of[number];
      drawing.fill(grounds[number]);
    });
    for (const { island, stroke, path } of strokes.values()) {
      drawing.globalAlpha = only ? 0.1 : 0.33;
      drawing.strokeStyle = island < 0 ? colours.line : colours.of[island];
      drawing.lineWidth = data.strokes[stroke] * fitting * (view.zoom / fitting) ** 0.3 / view.zoom;
      drawing.stroke(path);
    }
    onScreen(drawing);
    drawing.globalAlpha = 1;
    const matches = only && new Set(found(only));
    islands.forEach((_, number) => {
      const path = new Path2D(), rest = new Path2D();
      for (const place of members[number]) addNode(!matches || matches.has(place) ? path : rest, nodes[place]);
      drawing.fillStyle = colours.of[number];
      drawing.globalAlpha = 0.2;
      drawing.fill(rest);
      drawing.globalAlpha = 1;
      drawing.strokeStyle = colours.paper;
      drawing.lineWidth = 0.7;
      drawing.fill(path);
      drawing.stroke(path);
    });
    drawNames(drawing, matches);
  }

  function drawNames(drawing, matches) {
    const room = new Room();
    const size = Math.min(Math.max(data.font * view.zoom, 12), 17);
    drawing.textAlign = "center";
    drawing.textBaseline = "alphabetic";
    drawing.font = font(size, 600);
    for (const island of islands) {
      const [x, bottom] = toScreen((island.label[0] + island.label[2]) / 2, island.label[3]);
      const half = Math.max(...island.lines.map((line) => drawing.measureText(line).width)) / 2;
      const high = size * 1.2, top = bottom - high * island.lines.length;
      if (x < -half || x > width + half || bottom < 0 || top > height) continue;
      if (!room.take(x - half, top, x + half, bottom)) continue;
      island.lines.forEach((line, number) => write(drawing, line, x, top + high * (number + 1) - size * 0.3, colours.ink));
    }
    if (data.spacing * view.zoom < NAMED_FROM) return;
    drawing.font = font(12, 400);
    let left = 400;
    for (const place of byDegree) {
      if (!isInView(place) || (matches && !matches.has(place))) continue;
      if (!left--) break;
      const node = nodes[place], [x, y] = toScreen(node.x, node.y);
      const text = cut(node.keywords[0] ?? node.title), half = drawing.measureText(text).width / 2;
      const top = y + radiusOf(node) + 2;
      if (room.take(x - half - 2, top, x + half + 2, top + 15)) write(drawing, text, x, top + 11, colours.muted);
    }
  }

  const cut = (text, most = 28) => [...text].length > most ? [...text].slice(0, most - 1).join("") + "…" : text;

  function drawChosen() {
    const place = hovered ?? chosen;
    const drawing = context(chosenLayer);
    picture.classList.toggle("faded", place !== null);
    if (place === null) return;
    const node = nodes[place], near = neighbours[place];
    inPicture(drawing);
    drawing.lineWidth = 1.4 / view.zoom;
    drawing.globalAlpha = 0.75;
    for (const [other, link] of near) {
      const path = new Path2D();
      addLink(path, links[link]);
      drawing.strokeStyle = nodes[other].island === node.island ? colours.of[node.island] : colours.line;
      drawing.stroke(path);
    }
    onScreen(drawing);
    drawing.globalAlpha = 1;
    for (const other of [...near.map(([neighbour]) => neighbour), place]) {
      const path = new Path2D();
      addNode(path, nodes[other]);
      drawing.fillStyle = colours.of[nodes[other].island];
      drawing.strokeStyle = other === place ? colours.ink : colours.paper;
      drawing.lineWidth = other === place ? 2 : 0.7;
      drawing.fill(path);
      drawing.stroke(path);
    }
    const room = new Room();
    drawing.textAlign = "center";
    for (const other of [place, ...near.map(([neighbour]) => neighbour)]) {
      drawing.font = font(12, other === place ? 600 : 400);
      const [x, y] = toScreen(nodes[other].x, nodes[other].y);
      const text = cut(nodes[other].keywords[0] ?? nodes[other].title);
      const half = drawing.measureText(text).width / 2, top = y + radiusOf(nodes[other]) + 3;
      if (room.take(x - half - 2, top, x + half + 2, top + 15)) write(drawing, text, x, top + 11, colours.ink);
    }
  }

  let isStale = true;
  function changed(all = true) {
    isStale ||= all;
    if (isAwaited) return;
    isAwaited = true;
    requestAnimationFrame(() => {
      isAwaited = false;
      if (isStale) drawPicture();
      isStale = false;
      drawChosen();
    });
  }

  // ---- text beside the picture: only `textContent`, because it is the user's text ----

  function made(tag, text, kind) {
    const one = document.createElement(tag);
    if (text !== undefined) one.textContent = text;
    if (kind) one.className = kind;
    return one;
  }

  function mark(island) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg"), corners = data.shapes[island.shape];
    const shape = document.createElementNS(space, corners ? "polygon" : "circle");
    svg.setAttribute("viewBox", "-1.5 -1.5 3 3");
    svg.setAttribute("class", "mark");
    svg.setAttribute("aria-hidden", "true");
    if (corners) shape.setAttribute("points", corners.map((corner) => corner.join(",")).join(" "));
    else shape.setAttribute("r", "1.1");
    shape.style.fill = `var(${island.colour})`;
    svg.append(shape);
    return svg;
  }

  function row(island, name, number, more, act) {
    const item = made("li"), button = made("button");
    button.type = "button";
    button.append(mark(island), made("b", name), made("span", number, "number"));
    if (more) button.append(made("span", more, "small"));
    button.addEventListener("click", act);
    item.append(button);
    return item;
  }

  const clusterRows = () => islands.map((island) =>
    row(island, island.name, island.size.toLocaleString("en"), island.keywords.join(", "), () => showIsland(island)));

  const nodeRow = (place) => {
    const node = nodes[place], island = islands[node.island];
    return row(island, node.title, "", [island.name, ...node.keywords].join(" · "), () => choose(place, true));
  };

  function showIsland(island) {
    const x = island.outline.map((corner) => corner[0]), y = island.outline.map((corner) => corner[1]);
    isFitted = false;
    show(Math.min(...x), island.label[1], Math.max(...x), Math.max(...y), fitting * MOST_ZOOM / 2);
  }

  function found(text) {
    const words = text.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    return byDegree.filter((place) => words.every((word) => said[place].includes(word)));
  }

  function look() {
    only = search.value.trim();
    const places = only ? found(only) : [];
    const count = places.length.toLocaleString("en");
    const more = places.length > MOST_FOUND ? `, the first ${MOST_FOUND} listed` : "";
    element("found").textContent = only ? `${count} ${places.length === 1 ? "node" : "nodes"} found${more}` : "";
    list.setAttribute("aria-label", only ? "Nodes found" : "Clusters");
    if (places.length && !places.some(isInView)) fit();
    list.replaceChildren(...(only ? places.slice(0, MOST_FOUND).map(nodeRow) : clusterRows()));
    changed();
  }

  function choose(place, isFar = false) {
    chosen = place;
    details.hidden = place === null;
    details.replaceChildren();
    if (place !== null) {
      const node = nodes[place], facts = made("dl");
      for (const [name, value] of [["ID", node.id], ["Cluster", islands[node.island].name], ["Keywords", node.keywords.join(", ")],
        ["Source", node.source], ["Messages", node.messages], ["Date", node.date], ["Edges", neighbours[place].length]]) {
        if (value !== "" && value !== null) facts.append(made("dt", name), made("dd", value));
      }
      const near = made("ul");
      near.setAttribute("aria-label", "Neighbours");
      near.append(...[...neighbours[place]].sort((a, b) => links[b[1]][2] - links[a[1]][2]).slice(0, 20).map(([other]) =>
        row(islands[nodes[other].island], nodes[other].title, "", "", () => choose(other, true))));
      details.append(made("h2", node.title), facts, near);
      details.scrollTop = 0;
      if (isFar) {
        isFitted = false;
        if (view.zoom < fitting * 3) view.zoom = Math.min(fitting * 3, Math.max(fitting, 1.8));
        Object.assign(view, { x: node.x, y: node.y });
      }
    }
    changed();
  }

  function hover(place, x, y) {
    if (place !== hovered) {
      hovered = place;
      tip.hidden = place === null;
      if (place !== null) {
        const node = nodes[place], island = islands[node.island];
        tip.replaceChildren(made("b", node.title), ...[node.id === node.title ? "" : node.id, island.name, node.keywords.join(", ")]
          .filter(Boolean).map((line) => made("div", line, "small")));
      }
      changed(false);
    }
    if (place === null) return;
    tip.style.left = `${x + 16 + tip.offsetWidth > width ? Math.max(x - 16 - tip.offsetWidth, 4) : x + 16}px`;
    tip.style.top = `${y + 16 + tip.offsetHeight > height ? Math.max(y - 16 - tip.offsetHeight, 4) : y + 16}px`;
  }

  // ---- pointer and keys ----

  const pointers = new Map();
  let travelled = 0;
  const near = (event) => nearest(...toPicture(event.offsetX, event.offsetY), Math.max(REACH / view.zoom, data.spacing / 3));

  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pointers.size === 1) travelled = 0;
  });
  picture.addEventListener("pointermove", (event) => {
    const now = [event.offsetX, event.offsetY], before = pointers.get(event.pointerId);
    if (!before) return hover(near(event), ...now);
    hover(null);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      zoomBy(spread(now) / Math.max(spread(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else moveBy(now[0] - before[0], now[1] - before[1]);
    travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
    pointers.set(event.pointerId, now);
  });
  const lift = (event) => pointers.delete(event.pointerId);
  picture.addEventListener("pointerup", (event) => {
    if (pointers.size === 1 && travelled < 5) choose(near(event));
    lift(event);
  });
  picture.addEventListener("pointercancel", lift);
  picture.addEventListener("pointerleave", () => hover(null));
  picture.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
  }, { passive: false });

  const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  picture.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (steps[event.key]) moveBy(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoomBy(1.3);
    else if (event.key === "-") zoomBy(1 / 1.3);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape") {
      if (chosen !== null) return choose(null);
      search.value = "";
      look();
    }
  });
  search.addEventListener("input", look);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") list.querySelector("button")?.click();
    else if (event.key === "ArrowDown") list.querySelector("button")?.focus();
    else return;
    event.preventDefault();
  });
  list.addEventListener("keydown", (event) => {
    const item = document.activeElement.closest("li");
    const next = { ArrowDown: item?.nextElementSibling, ArrowUp: item?.previousElementSibling ?? search }[event.key];
    if (!next) return;
    (next === search ? search : next.firstElementChild).focus();
    event.preventDefault();
  });
  element("in").addEventListener("click", () => zoomBy(1.4));
  element("out").addEventListener("click", () => zoomBy(1 / 1.4));
  element("fit").addEventListener("click", fit);
  element("scheme").addEventListener("change", (event) => {
    document.documentElement.dataset.scheme = event.target.value;
    readColours();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);

  new ResizeObserver(() => {
    width = picture.clientWidth;
    height = picture.clientHeight;
    ratio = window.devicePixelRatio || 1;
    for (const layer of [picture, chosenLayer]) [layer.width, layer.height] = [width * ratio, height * ratio];
    if (isFitted) fit();
    changed();
  }).observe(picture);

  readColours();
  look();
  document.documentElement.dataset.ready = String(nodes.length);
})();
