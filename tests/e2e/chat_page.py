#!/usr/bin/env python3
"""The built-in chat page in a real browser, by the WebDriver protocol (standard library only).

  chat_page.py PROGRAM [FOLDER]     screenshots go to FOLDER when given

Prints "ok ..." or "FAILED ..." a check; "skipped ..." when no browser is installed.
"""
import base64
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

from service import check, start_service, wait_for

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


class Browser:
    def __init__(self, driver_url):
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.url = driver_url + "/session"
        self.url += "/" + call("POST", self.url, {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def do(self, path, body=None, method="POST"):
        return call(method, self.url + path, body if method == "POST" else None)

    def find(self, css):
        return "/element/" + self.do("/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.do(self.find(css) + "/click", {})

    def type(self, css, text):
        self.do(self.find(css) + "/value", {"text": text})

    def js(self, script):
        return self.do("/execute/sync", {"script": script, "args": []})

    def until(self, script, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.js("return !!(" + script + ")"):
                return True
            time.sleep(0.05)
        return False

    def screenshot(self, path):
        pathlib.Path(path).write_bytes(base64.b64decode(self.do("/screenshot", method="GET")))


def talk(b, shots):
    last = "document.querySelector('.assistant:last-of-type .body')"
    done = "document.getElementById('stop').hidden && document.querySelector('.assistant .meta').textContent"
    check("page: the model is offered", b.until("document.getElementById('model').value === 'mini'"))
    b.click("#hint")
    check("page: the example fills the message", b.js("return document.getElementById('text').value").startswith("写"))
    b.type("#text", "\ue007")  # Enter
    check("page: an answer comes and ends", b.until(done))
    poem = b.js("return " + last + ".textContent")
    check("page: the answer is a poem of four lines", len([c for c in poem if c in "，。？！"]) == 4)
    check("page: tokens and speed are shown", "tokens/s" in b.js("return document.querySelector('.assistant .meta').textContent"))
    shots("desktop")
    b.click("#new")
    check("page: a new chat is empty", b.js("return document.getElementById('log').children.length") == 0)

    # A long answer, stopped: pieces arrive one by one and stay.
    b.js("document.getElementById('temperature').value = '2'")
    b.type("#text", "写一首七言律诗" * 40 + "\ue007")
    b.until("document.querySelector('.assistant .body') && document.querySelector('.assistant .body').textContent.length > 0")
    b.js("document.getElementById('stop').click()")
    check("page: stop ends the answer", b.until("document.getElementById('stop').hidden"))
    b.click("#new")
    b.js("document.getElementById('temperature').value = ''")

    # Markup in a message is text.
    b.type("#text", "<img src=x onerror=document.title='broken'>\ue007")
    b.until(done)
    check("page: markup is shown as text", b.js("return document.querySelector('.user .body').textContent").startswith("<img")
          and b.js("return document.title") == "qianwen")
    b.click("#new")


def main():
    program = sys.argv[1]
    shots_folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    driver_program = shutil.which("chromedriver")
    if driver_program is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        print("skipped the chat page in a browser: chromium and chromedriver are not installed")
        return
    with tempfile.TemporaryDirectory() as work:
        server, port = start_service(program, work + "/server.log")
        driver = subprocess.Popen([driver_program, "--port=0"], stdout=open(work + "/driver.log", "w"), stderr=subprocess.STDOUT)
        browser = None
        try:
            where = wait_for(work + "/driver.log", "started successfully on port")
            browser = Browser("http://127.0.0.1:" + where.rstrip(".").rsplit(" ", 1)[1])
            shots = lambda name: shots_folder and browser.screenshot(shots_folder / (name + ".png"))
            browser.do("/window/rect", {"width": 1100, "height": 760})
            browser.do("/url", {"url": f"http://127.0.0.1:{port}/"})
            talk(browser, shots)
            browser.do("/window/rect", {"width": 390, "height": 780})
            browser.type("#text", "你好\ue007")
            browser.until("document.getElementById('stop').hidden && document.querySelector('.assistant .meta').textContent")
            check("page: nothing sticks out on a phone", browser.js("return document.documentElement.scrollWidth <= innerWidth"))
            shots("phone")
            log = browser.do("/se/log", {"type": "browser"})
            check("page: no errors in the console", not [entry for entry in log if entry["level"] == "SEVERE"])
            server.terminate()
            server.wait(20)
            browser.type("#text", "你好\ue007")
            check("page: a server that is gone is said", browser.until("document.querySelector('.error')"))
            shots("gone")
        finally:
            if browser:
                browser.do("", method="DELETE")
            for process in (server, driver):
                process.terminate()
                process.wait(20)


if __name__ == "__main__":
    main()
