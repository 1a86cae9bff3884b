// The wheel: keys, a gamepad or two thumbs become pedal and wheel in [-1, 1], sent when they change. Nothing queues up: what counts
// is where they are now.
"use strict";

const RAMP = { wheel: 3.2, centre: 5, pedal: 6 };  // per second: how fast keys turn the wheel, let go of it, press the pedal
const DRIVING = {
  arrowup: "faster", w: "faster", arrowdown: "slower", s: "slower", arrowleft: "left", a: "left", arrowright: "right", d: "right",
};

const held = new Set();
const thumbs = { wheel: null, pedal: null };

/** Starts sending: drive(pedal, wheel) whenever one of them changes; started() when somebody begins to drive. */
function readInput(drive, started) {
  let pedal = 0, wheel = 0, sent = "0 0", last = performance.now(), was = false;
  setInterval(() => {
    const now = performance.now(), passed = Math.min((now - last) / 1000, 0.2), pad = gamepad();
    last = now;
    const keys = { wheel: held.has("left") - held.has("right"), pedal: held.has("faster") - held.has("slower") };
    const steers = thumbs.wheel ?? pad?.wheel, presses = thumbs.pedal ?? pad?.pedal;
    wheel = steers ?? towards(wheel, keys.wheel, (keys.wheel ? RAMP.wheel : RAMP.centre) * passed);
    pedal = presses ?? towards(pedal, keys.pedal, RAMP.pedal * passed);
    const active = Boolean(keys.wheel || keys.pedal || thumbs.wheel !== null || thumbs.pedal !== null || pad);
    if (active && !was) started();
    was = active;
    const text = `${pedal.toFixed(2)} ${wheel.toFixed(2)}`;
    if (text !== sent) {
      sent = text;
      drive(Number(pedal.toFixed(2)), Number(wheel.toFixed(2)));
    }
  }, 33);
}

const towards = (value, goal, step) => value < goal ? Math.min(value + step, goal) : Math.max(value - step, goal);

/** Stick and triggers of a gamepad that somebody touches, else null. */
function gamepad() {
  for (const pad of navigator.getGamepads ? navigator.getGamepads() : []) {
    if (!pad || pad.axes.length < 1 || pad.buttons.length < 8) continue;
    const stick = Math.abs(pad.axes[0]) < 0.08 ? 0 : -pad.axes[0], pedals = pad.buttons[7].value - pad.buttons[6].value;
    if (stick || pedals) return { wheel: Math.max(-1, Math.min(stick, 1)), pedal: pedals };
  }
  return null;
}

/** A pad for a thumb: axis "wheel" reads left and right, "pedal" up and down. */
function readPad(element, axis) {
  const knob = element.querySelector("i");
  const place = event => {
    const box = element.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * 2 - 1, y = 1 - (event.clientY - box.top) / box.height * 2;
    const value = Math.max(-1, Math.min((axis === "wheel" ? -x : y) * 1.25, 1));
    thumbs[axis] = Number(value.toFixed(2));
    const reach = (axis === "wheel" ? box.width : box.height) / 2 - 26;
    knob.style.transform = axis === "wheel" ? `translateX(${-value * reach}px)` : `translateY(${-value * reach}px)`;
  };
  element.addEventListener("pointerdown", event => { element.setPointerCapture(event.pointerId); place(event); });
  element.addEventListener("pointermove", event => { if (thumbs[axis] !== null) place(event); });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, () => { thumbs[axis] = null; knob.style.transform = ""; });
  }
}
