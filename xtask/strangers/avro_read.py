"""Reads a topic from its start to its end as Confluent's Avro deserialiser does, committed records only; prints each as a
line of JSON: {"key": text, "value": the datum, "headers": {name: text}}, bytes in hex. A value that it cannot read is
{"unread": why}.

avro_read.py BROKERS REGISTRY TOPIC
"""

import json
import sys
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, topic = sys.argv[1:]
deserialise = AvroDeserializer(SchemaRegistryClient({"url": registry}))
context = SerializationContext(topic, MessageField.VALUE)


def read(value):
    try:
        return deserialise(value, context)
    except Exception as error:
        return {"unread": str(error)}


consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": f"stranger-{uuid.uuid4()}",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
    }
)
open_ = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in open_])
while open_:
    message = consumer.poll(30)
    if message is None:
        sys.exit(f"nothing came for 30 s; not at their ends: {sorted(open_)}")
    if message.error():
        # -191: the end of a partition
        if message.error().code() != -191:
            sys.exit(str(message.error()))
        open_.discard(message.partition())
        continue
    key = message.key()
    record = {
        "key": None if key is None else key.decode(),
        "value": read(message.value()),
        "headers": {name: value.decode(errors="replace") for name, value in message.headers() or []},
    }
    print(json.dumps(record, default=bytes.hex))
consumer.close()
