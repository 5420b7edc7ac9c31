"""A Ray that is slow to start."""

import pytest

from headrace.commands.serve import start_ray
from headrace.errors import StartFailed


class SlowRay:
    """A Ray whose first `failures` starts fail."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.starts = 0
        self.tidied = 0

    def start(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise RuntimeError(
                "The current node timed out during startup.\nThis could happen because ..."
            )

    def tidy(self) -> None:
        self.tidied += 1


@pytest.mark.parametrize("failures", [0, 1])
def test_ray_that_starts_in_time_or_at_the_second_try_is_used(
    failures: int, capfd: pytest.CaptureFixture[str]
) -> None:
    ray = SlowRay(failures)
    start_ray(ray.start, ray.tidy, is_ours=True)
    assert (ray.starts, ray.tidied) == (failures + 1, failures)
    assert capfd.readouterr().err.count("trying once more") == failures


@pytest.mark.parametrize("is_ours", [False, True])
def test_a_failed_start_of_ray_is_one_line_and_a_foreign_cluster_is_left_alone(
    is_ours: bool,
) -> None:
    ray = SlowRay(9)
    with pytest.raises(
        StartFailed,
        match=r"^Ray did not start: The current node timed out during startup\. \(.*\.log\)$",
    ):
        start_ray(ray.start, ray.tidy, is_ours=is_ours)
    assert (ray.starts, ray.tidied) == ((2, 2) if is_ours else (1, 0))
