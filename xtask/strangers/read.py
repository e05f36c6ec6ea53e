"""Reads topics from their starts to their ends, committed records only; prints each as a line of JSON.

read.py BROKERS TOPIC,…   Bytes are in base16, none is null; headers are in their order.
"""

import json
import sys
import uuid

from confluent_kafka import Consumer, OFFSET_BEGINNING, TopicPartition

brokers, topics = sys.argv[1], sys.argv[2].split(",")
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": f"stranger-{uuid.uuid4()}",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
    }
)


def text(value):
    return None if value is None else value.hex()


known = consumer.list_topics(timeout=30).topics
open_ = {(name, number) for name in topics for number in known[name].partitions}
consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for name, number in open_])
while open_:
    message = consumer.poll(30)
    if message is None:
        sys.exit(f"nothing came for 30 s; not at their ends: {sorted(open_)}")
    place = (message.topic(), message.partition())
    if message.error():
        # -191: the end of a partition
        if message.error().code() != -191:
            sys.exit(str(message.error()))
        open_.discard(place)
        continue
    headers = [[name, text(value)] for name, value in message.headers() or []]
    record = {
        "topic": place[0],
        "partition": place[1],
        "offset": message.offset(),
        "key": text(message.key()),
        "value": text(message.value()),
        "headers": headers,
    }
    print(json.dumps(record))
consumer.close()
