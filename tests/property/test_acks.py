"""Acknowledgements against RabbitMQ's rule: a frame that names a tag which is not open closes the channel."""

from hypothesis import given
from hypothesis import strategies as st

from consumers.acks import AckTracker


class Channel:
    """What the broker knows of one channel."""

    def __init__(self, deliveries: int) -> None:
        self.open = set(range(1, deliveries + 1))

    def ack(self, tag: int, *, multiple: bool) -> set[int]:
        assert tag in self.open, f"PRECONDITION_FAILED unknown delivery tag {tag}"
        done = {other for other in self.open if other <= tag} if multiple else {tag}
        self.open -= done
        return done


@given(st.permutations(range(1, 26)), st.lists(st.sampled_from(["multiple", "single", "wait"]), min_size=25))
def test_every_tag_is_acknowledged_once_and_never_before_it_is_settled(
    order: list[int], steps: list[str]
) -> None:
    channel, tracker, settled = Channel(25), AckTracker(), set()
    acknowledged: list[int] = []
    for tag, step in zip(order, steps, strict=False):
        tracker.settle(tag)
        settled.add(tag)
        if step == "multiple" and (up_to := tracker.take_multiple()) is not None:
            acknowledged += channel.ack(up_to, multiple=True)
        if step == "single":
            for single in tracker.take_single():
                acknowledged += channel.ack(single, multiple=False)
        assert set(acknowledged) <= settled
    if (up_to := tracker.take_multiple()) is not None:
        acknowledged += channel.ack(up_to, multiple=True)
    assert sorted(acknowledged) == list(range(1, 26))
    assert channel.open == set()
    assert (tracker.ahead, tracker.take_multiple(), tracker.take_single()) == (0, None, [])
