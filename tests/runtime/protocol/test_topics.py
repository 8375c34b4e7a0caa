"""Topics of a stream: those of the specification, and no way out of them."""

import pytest

from edgesem.errors import UsageError
from runtime.protocol.topics import Topics


def test_topics_are_those_of_the_design():
    topics = Topics(site="farm", device="gate", stream="day")
    assert topics.layer(2) == "edgesem/v1/farm/gate/day/pkt/2"
    assert topics.ack == "edgesem/v1/farm/gate/day/ack"
    assert topics.every_layer == "edgesem/v1/farm/gate/day/pkt/+"


@pytest.mark.parametrize("part", ["", "a/b", "+", "#", "a\0"])
def test_a_topic_part_that_would_reach_elsewhere_is_refused(part):
    with pytest.raises(UsageError):
        Topics(site=part)
