"""A deadline that moves: only the last one counts."""

import asyncio
from math import inf

from hypothesis import given
from hypothesis import strategies as st
from loadtests.support import virtual_time

from headrace.process.lazy_timer import LazyTimer

# Whole seconds, so that none is within the millisecond by which a timer may be early.
STEPS = st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(-2, 20)), max_size=12)


@given(STEPS)
def test_only_the_deadline_that_was_set_last_comes_and_it_comes_once(
    steps: list[tuple[int, int | None]],
) -> None:
    """Each step waits, and then sets a later deadline or cancels it."""
    due_s: list[float] = []
    expected_s: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        timer = LazyTimer(lambda: due_s.append(loop.time()), loop.time)
        deadline_s = inf
        for wait_s, after_s in steps:
            await asyncio.sleep(wait_s + 0.5)
            if deadline_s <= loop.time():
                expected_s.append(deadline_s)
            deadline_s = inf
            if after_s is None:
                timer.cancel()
                continue
            deadline_s = max(loop.time(), loop.time() + after_s)
            timer.set(loop.time() + after_s)
        await asyncio.sleep(40.0)
        expected_s.extend([deadline_s] if deadline_s < inf else [])

    virtual_time.run(story())
    assert due_s == expected_s
