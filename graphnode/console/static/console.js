// Times in the viewer's zone, pages that keep up to date, and a box that chooses all. Pages can be read without it.
"use strict";

const shownTime = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

function localize(root) {
  for (const time of root.querySelectorAll("time")) {
    time.textContent = shownTime.format(new Date(time.dateTime));
  }
}

// What the viewer has opened, ticked or typed stays while a part of the page is replaced.
function isInUse(part) {
  const active = document.activeElement;
  return part.contains(active) && active.matches("input, select, textarea, button")
    || part.querySelector("input[type=checkbox]:checked") !== null
    || String(getSelection()) !== "" && part.contains(getSelection().anchorNode);
}

function replace(part, fresh) {
  const open = [...part.querySelectorAll("details")].map((one) => one.open);
  const focused = [...part.querySelectorAll("a, summary, [tabindex]")].indexOf(document.activeElement);
  part.replaceChildren(...fresh.childNodes);
  [...part.querySelectorAll("details")].forEach((one, index) => { one.open = open[index] ?? one.open; });
  if (focused >= 0) [...part.querySelectorAll("a, summary, [tabindex]")][focused]?.focus({ preventScroll: true });
  prepare(part);
}

function prepare(root) {
  localize(root);
  for (const box of root.querySelectorAll("[data-all]")) {
    box.hidden = false;
    box.addEventListener("change", () => {
      for (const one of box.form.querySelectorAll(`input[name=${box.dataset.all}]`)) one.checked = box.checked;
      chooseScope(box);
    });
  }
  for (const box of root.querySelectorAll("input[name=letter]")) box.addEventListener("change", () => chooseScope(box));
}

function chooseScope(box) {
  const any = box.form.querySelector("input[name=letter]:checked") !== null;
  const scope = box.form.querySelector(`input[name=scope][value=${any ? "chosen" : "all"}]`);
  if (scope) scope.checked = true;
}

function say(text) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text;
}

async function refresh() {
  const parts = [...document.querySelectorAll("[data-live]")].filter((part) => !isInUse(part));
  if (document.hidden || parts.length === 0) return;
  const answer = await fetch(location.href, { headers: { "X-Live": "1" } });
  if (answer.status === 401) { location.reload(); return; }
  if (!answer.ok && answer.status !== 404) { say("· The server cannot show this page now."); return; }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const fresh = page.getElementById(part.id);
    if (fresh) replace(part, fresh);
  }
  say("· live");
}

prepare(document);
if (document.querySelector("[data-live]")) {
  let busy = false;
  const events = new EventSource("/live");
  events.onmessage = async () => {
    if (busy) return;
    busy = true;
    try { await refresh(); } catch { say("· The server does not answer."); } finally { busy = false; }
  };
  events.onerror = () => say("· The connection is lost; trying again.");
  addEventListener("pagehide", () => events.close());
}
