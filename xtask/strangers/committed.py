"""What the other scripts read topics with: each from its start to its end, committed records only."""

import sys
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition


def messages(brokers, topics):
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"stranger-{uuid.uuid4()}",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    known = consumer.list_topics(timeout=30).topics
    open_ = {(name, number) for name in topics for number in known[name].partitions}
    consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for name, number in open_])
    while open_:
        message = consumer.poll(30)
        if message is None:
            sys.exit(f"nothing came for 30 s; not at their ends: {sorted(open_)}")
        if not message.error():
            yield message
            continue
        # -191: the end of a partition
        if message.error().code() != -191:
            sys.exit(str(message.error()))
        open_.discard((message.topic(), message.partition()))
    consumer.close()
