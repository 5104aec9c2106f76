"""A watch sees each batch once, however numbers come, and does not wait for ever for a gap to close."""

from loadtest.scenarios.sightings import Watch, first_seen


def row(number: int, at_us: int = 0, orders: int = 1) -> tuple[int, int, int, int, int]:
    return number, at_us or number * 1000, orders + 1, orders, 1


def watch() -> Watch:
    return Watch(node=None)  # type: ignore[arg-type]  # what it asks is not tried here


def test_numbers_in_a_row_leave_nothing_to_remember() -> None:
    seen = watch()
    seen.take([row(1), row(2), row(3)], now=10.0)
    assert (seen._floor, seen._above) == (3, {})
    assert (seen.events, seen.orders, seen.invoices) == (6, 3, 3)


def test_a_gap_is_waited_for() -> None:
    seen = watch()
    seen.take([row(1), row(3)], now=10.0)
    assert (seen._floor, set(seen._above)) == (1, {3})
    seen.take([row(2)], now=11.0)  # committed later than its follower
    assert (seen._floor, seen._above) == (3, {})
    assert first_seen(seen) == {1000: 10.0, 3000: 10.0, 2000: 11.0}


def test_a_gap_that_a_rollback_left_is_given_up() -> None:
    seen = watch()
    seen.take([row(1), row(4), row(5)], now=10.0)
    seen.take([], now=60.0)
    assert seen._floor == 1
    seen.take([], now=71.0)
    assert (seen._floor, seen._above) == (5, {})


def test_of_two_batches_at_one_moment_the_first_sight_counts() -> None:
    seen = watch()
    seen.take([row(1, 5000)], now=10.0)
    seen.take([row(2, 5000)], now=11.0)
    assert first_seen(seen) == {5000: 10.0}
