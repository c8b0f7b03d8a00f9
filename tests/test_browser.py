"""The chat page in a real, headless Chromium. Nothing is installed here: without browser, driver or Selenium the tests are skipped."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bus
from tests.test_examples import EXAMPLES, environment

selenium = pytest.importorskip("selenium", reason="Selenium is not installed (it comes with the extra 'dev')")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
WAIT = 30

# One browser for all of them.
pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium (Debian's package: chromium)"),
    pytest.mark.skipif(DRIVER is None, reason="there is no chromedriver (Debian's package: chromium-driver)"),
]

# The last ones keep it from calling home, which a closed network would refuse.
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage "
    "--disable-background-networking --disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    driver.set_script_timeout(WAIT)
    driver.set_page_load_timeout(WAIT)
    yield driver
    driver.quit()


@pytest.fixture
def chat() -> Iterator[str]:
    """The address of the example."""
    program = [sys.executable, str(EXAMPLES / "chat_page.py"), "127.0.0.1:0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment(), cwd=Path(EXAMPLES).parent) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split("//")[1].strip().rstrip("/")
        server.send_signal(signal.SIGTERM)


def shown(browser: Any, what: str) -> str:
    """The lines of the chat, once they contain that."""
    from selenium.webdriver.support.ui import WebDriverWait

    def text(driver: Any) -> str:
        return str(driver.find_element("id", "lines").text)

    WebDriverWait(browser, WAIT).until(lambda driver: what in text(driver))
    return text(browser)


def say(browser: Any, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.find_element("id", "line").send_keys(text, Keys.ENTER)


def received(conn: bus.Connection, fits: Callable[[str], bool]) -> str:
    while True:
        message = conn.receive(timeout=WAIT)
        assert message is not None, "it never came"
        if fits(message.text):
            return message.text


def test_a_browser_and_a_script_chat(browser: Any, chat: str) -> None:
    browser.get(f"http://{chat}/")
    shown(browser, "is here")
    with bus.connect(f"ws://{chat}/chat") as conn:
        say(browser, "grüß dich <b>")
        assert received(conn, lambda line: "grüß" in line).endswith(": grüß dich <b>")
        conn.send("hello from a script")
        lines = shown(browser, "hello from a script")
        assert "grüß dich <b>" in lines
    assert f"{conn.local_address} has left" in shown(browser, "has left")


def test_a_reloaded_page_is_a_new_client(browser: Any, chat: str) -> None:
    with bus.connect(f"ws://{chat}/chat") as conn:
        browser.get(f"http://{chat}/")
        first = received(conn, lambda line: line.endswith("is here") and conn.local_address not in line)
        browser.refresh()
        received(conn, lambda line: line == first.replace("is here", "has left"))
        assert received(conn, lambda line: line.endswith("is here")) != first


def test_a_page_from_elsewhere_may_not_connect(browser: Any, chat: str) -> None:
    with bus.serve("ws://127.0.0.1:0", print, on_request=echo_page) as other:
        browser.get(f"http://{other.address}/")
        how_it_ended = browser.execute_async_script(
            "const done = arguments[1], socket = new WebSocket(`ws://${arguments[0]}/chat`);"
            "socket.onopen = () => done('open'); socket.onerror = () => done('refused');",
            chat,
        )
    assert how_it_ended == "refused"


def test_text_binary_and_codes_cross_both_ways(browser: Any) -> None:
    def echo(client: bus.Session) -> None:
        for msg in client:
            client.send(msg)
        codes.append((client.close_code, client.close_reason))

    codes: list[tuple[int | None, str | None]] = []
    with bus.serve("ws://127.0.0.1:0", routes={"/echo": echo}, on_request=echo_page, compression=True, max_size=20_000_000) as server:
        browser.get(f"http://{server.address}/")
        sizes = browser.execute_async_script(
            """
            const done = arguments[0], sizes = [0, 1, 125, 126, 65535, 65536, 10000000], seen = [];
            const socket = new WebSocket(`ws://${location.host}/echo`);
            socket.binaryType = "arraybuffer";
            const next = () => {
                const size = sizes[seen.length >> 1];
                if (size === undefined) return socket.close(4001, "enough");
                socket.send(seen.length % 2 ? new ArrayBuffer(size) : "x".repeat(size));
            };
            socket.onopen = next;
            socket.onmessage = event => {
                seen.push(typeof event.data === "string" ? event.data.length : event.data.byteLength);
                next();
            };
            socket.onclose = event => done([seen, event.code, event.wasClean]);
            """
        )
        server.stop()
    assert sizes == [[size for size in (0, 1, 125, 126, 65535, 65536, 10_000_000) for _ in range(2)], 4001, True]
    assert codes == [(4001, "enough")]


def echo_page(request: bus.Request) -> bus.Response | None:
    return bus.Response(200, "<p>echo") if request.path == "/" else None
