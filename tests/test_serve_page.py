"""The server's page in a headless Chromium: a file, and its fake microphone."""

# ruff: noqa: F811 (fixtures of serve_tools.py are named as the arguments that take them)

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List

import numpy as np
import pytest
import soundfile

pytest.importorskip("websockets", reason="needs websockets (pip install 'hybrid-asr[serve]')")

from browser_tools import Browser, browsing, chromium
from lhotse import CutSet
from serve_tools import Served, directly, engine, serving, speech, wait_until  # noqa: F401
from small_run import RATE

from hybrid.serve.engine import Engine

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def served(engine: Engine) -> Iterator[Served]:
    with serving(engine) as found:
        yield found


@pytest.fixture(scope="module")
def browser(served: Served, speech: List[np.ndarray], tmp_path_factory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    soundfile.write(folder / "speech.wav", np.concatenate(speech), RATE, subtype="PCM_16")
    with browsing(folder / "profile", folder / "speech.wav") as found:
        found.open(served.address)
        found.wait("document.getElementById('about').textContent.includes('Hz')")
        yield found


def text(browser: Browser, selector: str) -> str:
    return browser.evaluate(f"[...document.querySelectorAll('{selector}')].map(e => e.textContent.trim()).join(' ')")


def clear(browser: Browser) -> None:
    browser.evaluate("document.getElementById('clear').click()")
    assert not text(browser, "#said li")


def test_a_file_is_recognised(
    browser: Browser, served: Served, engine: Engine, small_cuts: CutSet, speech: List[np.ndarray]
) -> None:
    """Word for word what the library says; times on hover, the n-best and times in the disclosure."""
    (result,) = directly(engine.recogniser, speech[7])
    file = Path(list(small_cuts)[7].recording.sources[0].source)
    clear(browser)
    browser.choose("#file", file)
    browser.wait("document.querySelectorAll('#said li').length === 1")
    browser.wait("document.getElementById('status').textContent === 'Done.'")
    assert text(browser, ".words") == result.text != ""
    word = result.words[0]
    hints = browser.evaluate("[...document.querySelectorAll('.words span')].map(e => e.title)")
    assert hints[0].startswith(f"{word.start:.2f} to {word.end:.2f} s") and len(hints) == len(result.words)
    assert not browser.evaluate("document.querySelector('details').open")
    cells = browser.evaluate("[...document.querySelectorAll('details td')].map(e => e.textContent)")
    nbest = [other.text for other in result.nbest(10)]
    assert cells[1 : 2 * len(nbest) : 2] == nbest and len(nbest) > 1
    assert cells[2 * len(nbest) :: 3] == result.text.split()
    wait_until(lambda: engine.streams == 0)
    assert browser.complaints == []


def test_words_come_while_the_microphone_hears_them(browser: Browser, engine: Engine) -> None:
    clear(browser)
    browser.evaluate("document.getElementById('record').click()")
    browser.wait("document.getElementById('partial').textContent.trim() || document.querySelector('#said li')")
    assert text(browser, "#status") == "Listening ..." and text(browser, "#record") == "Stop"
    assert browser.evaluate("document.getElementById('record').getAttribute('aria-pressed')") == "true"
    browser.evaluate("document.getElementById('record').click()")
    browser.wait("document.getElementById('record').getAttribute('aria-pressed') === 'false'")
    assert text(browser, "#status") == "Done." and text(browser, ".words") and not text(browser, "#partial")
    wait_until(lambda: engine.streams == 0)
    assert browser.complaints == []


def test_confidence_is_a_colour_and_none_is_neutral(browser: Browser) -> None:
    """In light and dark; what is improbable is underlined, too."""
    clear(browser)
    browser.evaluate("""(async () => {
      const real = window.WebSocket;
      window.WebSocket = class {
        static OPEN = 1;
        constructor() { this.readyState = 1; setTimeout(() => this.onopen(), 0); }
        send(message) {
          if (typeof message !== 'string' || !message.includes('eof')) return;
          const words = [0.95, 0.8, 0.6, 0.1, null].map((conf, k) => ({ word: `w${k}`, start: k, end: k + 0.5, conf }));
          this.onmessage({ data: JSON.stringify({ text: 'w', words, nbest: [], final: true }) });
          this.onclose({ code: 1000 });
        }
        close() {}
      };
      document.getElementById('record').click();
      await new Promise((resolve) => setTimeout(resolve, 500));
      document.getElementById('record').click();
      window.WebSocket = real;
    })()""")
    browser.wait("document.querySelector('#said li')")
    assert browser.evaluate("[...document.querySelectorAll('.words span')].map(e => e.className)") == [
        "c3", "c2", "c1", "c0", "",
    ]  # fmt: skip
    hints = browser.evaluate("[...document.querySelectorAll('.words span')].map(e => e.title)")
    assert hints[1] == "1.00 to 1.50 s, confidence 0.80" and hints[4] == "4.00 to 4.50 s"
    assert browser.evaluate("document.getElementById('legend').hidden") is False
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        styles = browser.evaluate(
            "[...document.querySelectorAll('.words span')].map(e => { const s = getComputedStyle(e);"
            " return s.backgroundColor + s.borderBottomStyle; })"
        )
        assert "dotted" in styles[2] and "dashed" in styles[3]
        assert len(set(styles)) == 5 and styles[4].startswith("rgba(0, 0, 0, 0)")
    browser.wait("document.getElementById('record').getAttribute('aria-pressed') === 'false'")


def test_what_the_browser_cannot_read(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"no audio" * 100)
    browser.choose("#file", tmp_path / "song.wav")
    browser.wait("document.getElementById('status').className === 'error'")
    assert text(browser, "#status") == "The browser cannot read song.wav as audio."


def test_a_refusal_is_told(browser: Browser, served: Served, small_cuts: CutSet) -> None:
    limits = served.server.limits
    served.server.limits = type(limits)(seconds=0.2)
    try:
        browser.choose("#file", Path(list(small_cuts)[7].recording.sources[0].source))
        browser.wait("document.getElementById('status').className === 'error'")
    finally:
        served.server.limits = limits
    assert text(browser, "#status").startswith("More than 0.2 s of speech")
