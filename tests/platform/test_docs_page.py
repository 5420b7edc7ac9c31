"""The page of the API in a real browser that can reach this server and nothing else."""

import shutil
import subprocess

import pytest
from tests.platform.running import Platform

from headrace.gateway.api.endpoints import ROUTES

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

BROWSER = shutil.which("chromium")
# A proxy that is not there, for all but loopback, and no names at all.
OFFLINE = [
    "--proxy-server=http://127.0.0.1:1",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="module")
def page(served: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page as it is when its scripts have run."""
    if BROWSER is None:
        pytest.skip("chromium is not installed")
    shown = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
            *OFFLINE,
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"http://127.0.0.1:{served.port}/docs",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )
    return shown.stdout.decode()


def test_the_page_shows_every_operation_without_any_network(page: str) -> None:
    assert page.count('class="opblock-summary-method"') == len(ROUTES)


def test_the_page_shows_no_error(page: str) -> None:
    assert "errors-wrapper" not in page
