// Drawing from above, for reports and for the page of play: maps packed by replays.scene_drawing, lines and boxes on a canvas whose
// units are metres. Colours are those of the style sheet.
"use strict";

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const LIGHTS = [null, "--light-green", "--light-amber", "--light-red"];  // of what a traffic light shows; unknown is not drawn

function mapPaths(map) {
  const paths = {};
  for (const [style, lines] of Object.entries(map)) {
    const path = new Path2D();
    for (const line of lines) {
      path.moveTo(line[0] / 10, line[1] / 10);
      for (let i = 2; i < line.length; i += 2) path.lineTo(line[i] / 10, line[i + 1] / 10);
      if (style !== "divider") path.closePath();
    }
    paths[style] = path;
  }
  return paths;
}

function drawMap(c, paths) {
  c.fillStyle = colour("--road");
  c.fill(paths.road, "nonzero");
  c.fillStyle = colour("--crossing");
  c.fill(paths.crossing, "evenodd");
  c.strokeStyle = colour("--divider");
  c.lineWidth = 0.15;
  c.stroke(paths.divider);
}

function drawLine(c, xs, ys, style, thickness, dash, until) {
  c.strokeStyle = style;
  c.lineWidth = thickness;
  c.setLineDash(dash);
  c.beginPath();
  for (let i = 0; i < xs.length && i <= until; i++) {
    if (i) c.lineTo(xs[i], ys[i]);
    else c.moveTo(xs[i], ys[i]);
  }
  c.stroke();
  c.setLineDash([]);
}

function drawBox(c, [x, y, heading], length, width, ahead, fill) {
  c.save();
  c.translate(x, y);
  c.rotate(heading);
  c.fillStyle = fill;
  c.beginPath();
  if (c.roundRect) c.roundRect(ahead - length / 2, -width / 2, length, width, Math.min(0.35, width / 4));
  else c.rect(ahead - length / 2, -width / 2, length, width);
  c.fill();
  if (length > 1.2) {
    c.fillStyle = colour("--card");
    c.globalAlpha = 0.65;
    c.fillRect(ahead + length * 0.18, -width * 0.38, length * 0.12, width * 0.76);
  }
  c.restore();
}
