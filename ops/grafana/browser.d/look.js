// Says what a reader sees of a picture, in the picture's own units: where the browser has laid out each text and line,
// what lies over a text, and how it stands out. The picture stands in the page twice, as a document and as an image.
"use strict";

// Times as large, so that the thinnest part of a letter has pixels of the letter's colour alone.
const SCALE = 2;

function luminance(colour) {
  const [r, g, b] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// As the Web Content Accessibility Guidelines define it, from 1 to 21.
function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function parts(css) {
  return css.match(/[\d.]+/g).slice(0, 3).map(Number);
}

// The image as it is painted on the page, or on nothing.
function painted(image, scale, ground) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth * scale;
  canvas.height = image.naturalHeight * scale;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (ground) {
    context.fillStyle = ground;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return context;
}

function seenThrough(image) {
  const { data } = painted(image, 1).getImageData(0, 0, image.naturalWidth, image.naturalHeight);
  for (let at = 3; at < data.length; at += 4) {
    if (data[at] !== 255) return true;
  }
  return false;
}

// How many pixels have the colour, and how it stands out from the most frequent one.
function inked(context, box, colour) {
  const { data } = context.getImageData(
    Math.floor(box.x * SCALE), Math.floor(box.y * SCALE),
    Math.max(1, Math.ceil(box.width * SCALE)), Math.max(1, Math.ceil(box.height * SCALE)));
  const found = new Map();
  let pixels = 0;
  for (let at = 0; at < data.length; at += 4) {
    const key = (data[at] << 16) | (data[at + 1] << 8) | data[at + 2];
    found.set(key, (found.get(key) || 0) + 1);
    if (colour.every((part, i) => Math.abs(part - data[at + i]) <= 8)) pixels += 1;
  }
  const [ground] = [...found].sort((a, b) => b[1] - a[1])[0];
  return { pixels, contrast: contrast(colour, [ground >> 16, (ground >> 8) & 255, ground & 255]) };
}

function plain({ x, y, width, height }) {
  return { x, y, width, height };
}

function name(element) {
  return element ? `${element.tagName} ${(element.textContent || "").trim().slice(0, 40)}`.trim() : "nothing";
}

// What lies over the text, in its middle and near both of its ends.
function over(text) {
  text.scrollIntoView({ block: "center" });
  const box = text.getBoundingClientRect();
  const inset = Math.min(2, box.width / 2);
  for (const x of [box.x + inset, box.x + box.width / 2, box.x + box.width - inset]) {
    const hit = document.elementFromPoint(x, box.y + box.height / 2);
    if (hit !== text) return name(hit);
  }
  return null;
}

function panelOf(element) {
  return element.closest("g[id^=panel-]")?.id ?? null;
}

// The letters' own height: a font's is that of every letter that it has, with room between lines.
function letters(text, context) {
  const style = getComputedStyle(text);
  context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  const { actualBoundingBoxAscent: above, actualBoundingBoxDescent: below } = context.measureText(text.textContent);
  const { x, width } = text.getBBox();
  return { x, y: text.y.baseVal[0].value - above, width, height: above + below };
}

function textSeen(text, context) {
  const box = letters(text, context);
  const style = getComputedStyle(text);
  return {
    panel: panelOf(text), words: text.textContent, ...box, size: parseFloat(style.fontSize), over: over(text),
    ...inked(context, box, parts(style.fill)),
  };
}

// Each in its own words where the picture is none.
function problem(source, image) {
  const error = new DOMParser().parseFromString(source, "image/svg+xml").querySelector("parsererror");
  if (error) return error.textContent;
  return image.naturalWidth ? null : "the image cannot be shown";
}

function look(source) {
  const svg = document.querySelector("svg");
  const image = document.querySelector("img");
  const error = problem(source, image);
  if (error) return { error };
  const context = painted(image, SCALE, getComputedStyle(document.documentElement).backgroundColor);
  return {
    image: { width: image.naturalWidth, height: image.naturalHeight },
    picture: plain(svg.viewBox.baseVal),
    seenThrough: seenThrough(image),
    boxes: Object.fromEntries([...svg.querySelectorAll("g[id^=panel-] > rect:first-of-type")].map(
      (box) => [panelOf(box), plain(box.getBBox())])),
    texts: [...svg.querySelectorAll("text")].map((text) => textSeen(text, context)),
    lines: [...svg.querySelectorAll("g path")].map((path) => ({ panel: panelOf(path), ...plain(path.getBBox()) })),
  };
}

addEventListener("load", async () => {
  let seen;
  try {
    seen = look(await (await fetch("picture.svg")).text());
  } catch (error) {
    seen = { error: `${error.stack || error}` };
  }
  const answer = await fetch("seen", { method: "POST", body: JSON.stringify(seen) });
  const next = await answer.json();
  if (next) location.replace(next);
});
