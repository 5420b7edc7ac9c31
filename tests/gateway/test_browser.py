"""A real browser on a page of another site: it reads answers where that site is listed, and nothing
else.
"""

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import orjson
import pytest
from loadtests.support.in_process_platform import in_process_platform
from loadtests.support.ports import free_port

BROWSER = shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")

SCRIPT = """
<!doctype html><meta charset="utf-8"><title>a page</title><pre id="found"></pre><script>
const gateway = "%s";
const x = {name: "x", shape: [1, 4], datatype: "FP32", data: [1, 2, 3, 4]};
const body = JSON.stringify({inputs: [x]});
async function ask(path, options) {
  try {
    const answer = await fetch(gateway + path, options);
    const said = answer.type === "opaque" ? {} : await answer.json();
    const id = answer.headers.get("x-request-id") !== null;
    return [answer.type, answer.status, id, said.code || said.outputs && said.outputs[0].data ||
    ""];
  } catch (error) { return ["refused"]; }
}
(async () => {
  const json = {"content-type": "application/json", "x-request-id": "of-a-page"};
  const change = {method: "POST", body: '{"log_verbose_level": 7}'};
  const found = {
    infer: await ask(
      "/v2/models/doubler/infer", {method: "POST", headers: json, body, credentials: "include"}
    ),
    nowhere: await ask("/nowhere", {}),
    form: await ask("/v2/logging", {...change, mode: "no-cors"}),
    empty: await ask("/v2/logging", {method: "POST", mode: "no-cors"}),
    change: await ask("/v2/logging", {...change, headers: json}),
  };
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>
"""


class Page(http.server.BaseHTTPRequestHandler):
    """Answers everything with one page."""

    def __init__(self, page: bytes, *rest: object) -> None:
        self._page = page
        super().__init__(*rest)  # type: ignore[arg-type]  # socketserver's own three

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(self._page)))
        self.end_headers()
        self.wfile.write(self._page)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def site(port: int, page: str) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", port), partial(Page, page.encode())
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def shown(url: str, folder: Path) -> dict[str, list[object]]:
    """The text of a page once its script has run."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder}",
            "--proxy-server=http://127.0.0.1:1",
            "--proxy-bypass-list=localhost;127.0.0.1",
            "--virtual-time-budget=20000",
            "--dump-dom",
            url,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    text = done.stdout.decode().partition('<pre id="found">')[2].partition("</pre>")[0]
    found: dict[str, list[object]] = orjson.loads(text)
    return found


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_page_of_another_site_reads_answers_where_it_is_listed_and_changes_nothing_where_not(
    tmp_path: Path, is_listed: bool
) -> None:
    page_port = free_port()
    origin = f"http://localhost:{page_port}"
    with in_process_platform(tmp_path, origins=(origin,) if is_listed else ()) as gateway:
        before = gateway.ask("GET", "/v2/logging")[1]
        with site(page_port, SCRIPT % f"http://127.0.0.1:{gateway.port}"):
            found = shown(origin, tmp_path / "browser")
        after = gateway.ask("GET", "/v2/logging")[1]
        # The settings are those of this whole process.
        assert gateway.ask("POST", "/v2/logging", orjson.dumps(before))[0] == 200
    if is_listed:
        assert found["infer"] == ["cors", 200, True, [2, 4, 6, 8]]
        assert found["nowhere"] == ["cors", 404, True, "not_found"]
        assert (found["change"][:2], after["log_verbose_level"]) == (["cors", 200], 7)
    else:
        assert [found[name] for name in ("infer", "nowhere", "change")] == [["refused"]] * 3
        assert after == before
