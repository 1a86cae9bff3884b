"""The page in a real browser, on a desk and on a phone: driving, swapping, going back, inserting, saving; and no complaints."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dist4d_env.play.recording import Recording, film
from tests.play.browser import CHROMIUM, Browser, waited
from tests.play.conftest import TOKEN

pytestmark = [
    pytest.mark.browser,
    pytest.mark.medium,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: make test-browser takes it from the distribution"),
]
PIXELS = (
    "(() => { const c = new OffscreenCanvas(112, 64).getContext('2d', { willReadFrequently: true });"
    " c.drawImage(document.getElementById('world'), 0, 0); return c.getImageData(0, 0, 112, 64).data.join(); })()"
)
STATE = "JSON.stringify([state.ego, state.agents])"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture(params=[(1440, 900, False), (390, 844, True)], ids=["desk", "phone"])
def page(request, browser: Browser, server: str):
    """A fresh page whose first picture is there."""
    width, height, touch = request.param
    browser.open(f"http://{server}/{TOKEN}/", width, height, touch)
    browser.wait("header && state && header.tick === 0 && document.getElementById('progress').hidden", "the first picture")
    yield browser
    assert browser.errors == []
    browser.close_tab()


def still(page: Browser) -> None:
    """Stops, and waits until what is shown is the present."""
    page.run("say('run', { on: false })")
    page.wait("!state.running && header.tick === state.tick")


def box_of(page: Browser, element: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element in the window."""
    box = f"document.getElementById('{element}').getBoundingClientRect()"
    left, top, width, height = page.run(f"(r => [r.left, r.top, r.width, r.height])({box})")
    return left, top, width, height


def colours(page: Browser) -> int:
    return len(np.unique(np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB")).reshape(-1, 3), axis=0))


def test_nothing_sticks_out_and_everything_is_drawn(page):
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.run("[...document.querySelectorAll('#cameras canvas')].every(canvas => canvas.width === 112)")
    assert page.run("document.getElementById('over').textContent.includes('to drive')")
    assert colours(page) > 2000
    buttons = "[...document.querySelectorAll('button, select')].filter(b => b.offsetParent)"
    assert page.run(f"Math.min(...{buttons}.map(b => b.getBoundingClientRect().height)) >= 26")


def test_keys_and_thumbs_move_the_car(page):
    start = page.run("state.ego")
    if page.run("matchMedia('(max-width: 900px)').matches"):
        left, top, width, _ = box_of(page, "pad-pedal")
        x, y = left + width / 2, top + 10
        page.touch("touchStart", (x, y))
        page.wait("state.tick >= 8")
        page.touch("touchEnd")
    else:
        page.key("ArrowUp", up=False)
        page.key("ArrowLeft", up=False)
        page.wait("state.tick >= 8 && state.wheel > 0.01")
        page.key("ArrowLeft", down=False)
        page.key("ArrowUp", down=False)
    still(page)
    x, y, _, speed, _ = page.run("state.ego")
    assert np.hypot(x - start[0], y - start[1]) > 3 and speed > start[3] + 1


def test_a_gamepad_moves_the_car(page):
    pad = "{ axes: [0.5, 0], buttons: Array.from({ length: 17 }, (_, i) => ({ value: i === 7 ? 1 : 0 })) }"
    page.run(f"navigator.getGamepads = () => [{pad}]")
    page.wait("state.tick >= 6 && state.wheel < -0.01 && state.ego[4] > 1")
    page.run("navigator.getGamepads = () => []")
    still(page)


def test_the_switch_shows_other_pixels_of_the_same_state_and_going_back_restores_bits(page):
    page.run("act.step()")
    page.wait("header.tick === 1")
    state, splat = page.run(STATE), page.run(PIXELS)
    page.key("3")
    page.wait("header.world === 'oracle'")
    assert page.run(STATE) == state and page.run(PIXELS) != splat
    page.key("2")
    page.wait("header.world === 'splat'")
    assert page.run(STATE) == state and page.run(PIXELS) == splat
    page.run("say('control', { pedal: 1, wheel: 0.4 })")
    page.run("act.run()")
    page.wait("state.tick >= 6")
    still(page)
    page.run("go(1)")
    page.wait("header.tick === 1 && state.tick === 1")
    assert page.run(STATE) == state and page.run(PIXELS) == splat
    page.run("act.step()")
    page.wait("state.branches.length === 1 && header.tick === 2")


def test_truth_depth_and_cloud(page):
    page.key("c")
    page.wait("header.compared.psnr > 10 && !document.getElementById('pane-truth').hidden")
    page.key("v")
    page.wait("header.view === 'depth'")
    assert "depth is off by" in page.run("document.getElementById('pane-difference').textContent")
    page.key("c")
    page.key("v")
    page.wait(
        "header.view === 'cloud' && !document.getElementById('cloud').hidden && document.getElementById('pane-truth').hidden"
    )
    before = colours(page)
    left, top, width, height = box_of(page, "cloud")
    x, y = left + width / 2, top + height / 2
    shot = page.picture()
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", x + 60, y + 20)
    page.mouse("mouseReleased", x + 60, y + 20)
    assert before > 1000
    waited(lambda: page.picture() != shot, "the cloud to turn")


def test_out_of_the_car_and_back(page):
    pixels = page.run(PIXELS)
    page.key("b")
    page.wait("header.elsewhere")
    for _ in range(4):
        page.key("ArrowLeft")
    page.wait("header.elsewhere && beside.left > 1")
    waited(lambda: page.run(PIXELS) != pixels, "another picture")
    page.key("b")
    page.wait("!header.elsewhere")
    assert page.run(PIXELS) == pixels and page.run("state.tick") == 0


@pytest.mark.parametrize("key", [".", "[", " "])
def test_whoever_drives_on_or_goes_back_is_in_the_car_again(page, key):
    page.key("b")
    page.wait("header.elsewhere && beside.on")
    page.key("ArrowUp")
    button = "document.getElementById('return').getBoundingClientRect()"
    covers = f"(b => document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2).id)({button})"
    page.run("document.getElementById('stage').scrollIntoView()")
    assert page.run(covers) == "return", "nothing lies over the button"
    page.key(key)
    page.wait("!beside.on && !header.elsewhere && document.getElementById('elsewhere').hidden")
    assert page.run("document.getElementById('beside').ariaPressed") == "false" and page.run("beside.forward") == 0
    still(page)


def test_keys_drive_again_once_their_list_is_closed(page):
    page.key("?")
    page.wait("document.getElementById('keys').open")
    page.key("p")
    page.run("document.querySelector('#keys form button').click()")
    page.wait("!document.getElementById('keys').open")
    assert page.run("state.driver") == "hand", "what is pressed over the list does nothing"
    page.key("p")
    page.wait("state.driver === 'lane'")


def test_figures_that_are_unknown_are_no_alarm(page):
    page.run("Object.assign(state.metrics, { time_to_contact: null, route_offset: null }), showMetrics()")
    figures = page.run("[...document.querySelectorAll('#metrics dd')].map(dd => [dd.textContent, dd.className])")
    assert figures[2] == ["n/a", ""] and figures[4] == ["n/a", ""]


def test_a_click_on_the_map_means_where_it_is_drawn(page):
    """Between two ticks the car is drawn between its two places."""
    page.run("before = { ...state, ego: [state.ego[0] - 8, ...state.ego.slice(1)] }")
    page.run("Object.assign(state, { running: true, pace: 0.0001 }), arrived = performance.now()")  # a tick of 1000 s
    box = "document.getElementById('map').getBoundingClientRect()"
    at = f"(b => groundAt({{ clientX: b.left + b.width / 2, clientY: b.top + 0.72 * b.height }}))({box})"
    clicked, drawn, car = page.run(f"[{at}, blended().ego, state.ego]")
    assert clicked == pytest.approx(drawn[:2], abs=0.1) and clicked[0] < car[0] - 3
    page.run("Object.assign(state, { running: false, pace: 1 }), before = state, chosen.put = 'car'")
    page.run("document.getElementById('map').scrollIntoView()")
    left, top, width, height = box_of(page, "map")
    for kind in ("mousePressed", "mouseReleased"):
        place = {"x": left + width / 2, "y": top + height / 2}
        page.call("Input.dispatchMouseEvent", type=kind, button="right", buttons=2, clickCount=1, **place)
    assert page.run("view.drag") is None and page.run("chosen.put") == "car", "the other button puts nothing there"


def test_what_is_pressed_before_the_scene_is_there_is_kept(browser, server, drives, monkeypatch):
    make = drives.make

    def slow():
        time.sleep(1.5)
        return make()

    monkeypatch.setattr(drives, "make", slow)
    browser.open(f"http://{server}/{TOKEN}/", 1440, 900)
    browser.wait("document.getElementById('progress').textContent.includes('opening')")
    for element in ("[data-view=depth]", "#compare", "#beside", "#run", "#save", "[data-put=car]"):
        browser.run(f"document.querySelector('{element}').click()")
    browser.run("document.getElementById('time').dispatchEvent(new Event('input'))")
    browser.key("b")
    assert browser.run("state") is None
    browser.wait("header.view === 'depth'")
    assert browser.errors == []
    browser.close_tab()


def test_a_large_touched_screen_has_pads_too(browser, server):
    browser.open(f"http://{server}/{TOKEN}/", 1280, 900, touch=True)
    browser.wait("header && state && document.getElementById('progress').hidden")
    left, top, width, height = box_of(browser, "pad-pedal")
    assert browser.run("document.documentElement.scrollHeight <= window.innerHeight") and height > 60 and top + height <= 900
    browser.touch("touchStart", (left + width / 2, top + 10))
    browser.wait("state.tick >= 2 && state.ego[4] > 0.5")
    browser.touch("touchEnd")
    still(browser)
    assert browser.errors == []
    browser.close_tab()


def test_what_the_mouse_puts_on_the_road_is_seen(page):
    page.run("document.getElementById('map').scrollIntoView()")
    page.key("3")
    page.wait("header.world === 'oracle'")
    pixels = page.run(PIXELS)
    page.key("i")
    left, top, width, height = box_of(page, "map")
    scale = height / page.run("view.scale")
    x, y = left + width / 2 + 0.3 * scale, top + 0.72 * height - 16 * scale
    page.mouse("mousePressed", x, y)
    page.mouse("mouseReleased", x, y)
    page.wait("state.inserted === 1 && chosen.put === null", "the car on the road")
    waited(lambda: page.run(PIXELS) != pixels, "the car in the picture")


def test_a_planner_takes_over_and_gives_back(page):
    page.key("p")
    page.wait("state.driver === 'lane'")
    page.key(" ")
    page.wait("state.tick >= 4 && state.plan.length > 4")
    page.key("p")
    page.wait("state.driver === 'hand'")
    still(page)


def test_a_saved_drive_replays(page, drives):
    page.run("say('control', { pedal: 0.6, wheel: 0.2 }), act.run()")
    page.wait("state.tick >= 4")
    still(page)
    page.key("f")
    text = page.wait(
        "document.getElementById('notice').textContent.includes('bit for bit') && document.getElementById('notice').textContent"
    )
    place = Path(text.split("saved in ")[1].split(";")[0])
    assert len(Recording.read(place).ticks) == page.run("state.tick") + 1
    film(place)
    page.run("go(0)")


def test_a_wrong_address_says_so(browser, server):
    browser.open(f"http://{server}/wrong/", 390, 844)
    browser.wait("document.body && document.body.textContent.includes('token')")
    browser.close_tab()
