// The depth of all cameras as points in space, in the ego's frame, drawn by WebGL; dragging turns them, the wheel comes nearer.
"use strict";

const VERTEX = `
attribute vec4 place; attribute vec3 tint; varying vec3 shade; uniform mat4 view; uniform float scale;
void main() {
  gl_Position = view * vec4(place.xyz, 1.0);
  gl_PointSize = clamp(scale * place.w / gl_Position.w, 1.0, 40.0);  // as large as the pixel was that it comes from
  shade = tint;
}`;
const FRAGMENT = "precision mediump float; varying vec3 shade; void main() { gl_FragColor = vec4(shade, 1.0); }";
const DEPTH_UNIT = 1 / 600;  // metres
const FOCAL = 1.5;  // of the view, in halves of its height

/** A view of points on a canvas: {set(places, tints), draw()}; null where the browser has no WebGL. */
function makeCloud(canvas) {
  const gl = canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  const camera = { azimuth: Math.PI, height: 0.42, distance: 22 };
  const attributes = ["place", "tint"].map(name => {
    const index = gl.getAttribLocation(program, name), buffer = gl.createBuffer();
    gl.enableVertexAttribArray(index);
    return { index, buffer };
  });
  let count = 0;
  const fill = (attribute, values, columns, kind) => {
    gl.bindBuffer(gl.ARRAY_BUFFER, attribute.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.vertexAttribPointer(attribute.index, columns, kind, kind === gl.UNSIGNED_BYTE, 0, 0);
  };
  const draw = () => {
    const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0.03, 0.035, 0.05, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix4fv(gl.getUniformLocation(program, "view"), false, lookAt(camera, canvas.width / canvas.height));
    gl.uniform1f(gl.getUniformLocation(program, "scale"), 1.15 * FOCAL * canvas.height / 2);
    gl.drawArrays(gl.POINTS, 0, count);
  };
  turnable(canvas, camera, draw);
  return {
    set(places, tints) {
      count = places.length / 4;
      fill(attributes[0], places, 4, gl.FLOAT);
      fill(attributes[1], tints, 3, gl.UNSIGNED_BYTE);
    },
    draw,
  };
}

function turnable(canvas, camera, draw) {
  let from = null;
  canvas.addEventListener("pointerdown", event => { from = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", event => {
    if (!from) return;
    camera.azimuth -= (event.clientX - from[0]) * 0.008;
    camera.height = Math.max(-0.1, Math.min(camera.height + (event.clientY - from[1]) * 0.006, 1.5));
    from = [event.clientX, event.clientY];
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    camera.distance = Math.max(3, Math.min(camera.distance * Math.exp(event.deltaY * 0.001), 150));
    draw();
  }, { passive: false });
}

/** clip_from_ego, column by column: the camera goes round a point 6 m ahead of the car. */
function lookAt(camera, aspect) {
  const target = [6, 0, 1], flat = Math.cos(camera.height) * camera.distance;
  const eye = [
    target[0] + flat * Math.cos(camera.azimuth), target[1] + flat * Math.sin(camera.azimuth),
    target[2] + Math.sin(camera.height) * camera.distance,
  ];
  const unit = v => { const n = Math.hypot(...v); return v.map(x => x / n); };
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const ahead = unit(target.map((t, i) => t - eye[i])), right = unit(cross(ahead, [0, 0, 1])), up = cross(right, ahead);
  const f = FOCAL, near = 0.2, far = 400, a = (far + near) / (near - far), b = 2 * far * near / (near - far);
  const rows = [right, up, ahead.map(x => -x)], shift = rows.map(row => -dot(row, eye));
  const seen = rows.map((row, i) => [...row, shift[i]]);
  const clip = [seen[0].map(x => x * f / aspect), seen[1].map(x => x * f), seen[2].map((x, i) => x * a + (i === 3 ? b : 0)), seen[2].map(x => -x)];
  return new Float32Array([0, 1, 2, 3].flatMap(column => clip.map(row => row[column])));
}

/** Points {places, tints} of pictures, pixels (RGBA) and depth of each camera: x, y, z in the ego's frame and how wide a pixel is
 * there; red, green, blue. */
function pointsOf(pictures, depth, scene, height, width) {
  const places = [], tints = [], each = height * width;
  pictures.forEach((pixels, camera) => {
    const [fx, fy, cx, cy] = scene.intrinsics[camera], m = scene.egoFromCamera[camera];
    for (let i = 0; i < each; i++) {
      const z = depth[camera * each + i] * DEPTH_UNIT;
      if (!z) continue;
      const x = (i % width + 0.5 - cx) / fx * z, y = (Math.floor(i / width) + 0.5 - cy) / fy * z;
      places.push(
        m[0] * x + m[1] * y + m[2] * z + m[3], m[4] * x + m[5] * y + m[6] * z + m[7], m[8] * x + m[9] * y + m[10] * z + m[11], z / fx);
      tints.push(pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]);
    }
  });
  return { places: new Float32Array(places), tints: new Uint8Array(tints) };
}
