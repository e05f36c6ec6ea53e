"""Reads a topic from its start to its end as Confluent's Avro deserialiser does, committed records only; prints each as a
line of JSON: {"key": text, "value": the datum, "headers": {name: text}}, bytes in hex. A value that it cannot read is
{"unread": why}.

avro_read.py BROKERS REGISTRY TOPIC
"""

import json
import sys

from committed import messages
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


for message in messages(brokers, [topic]):
    key = message.key()
    record = {
        "key": None if key is None else key.decode(),
        "value": read(message.value()),
        "headers": {name: value.decode(errors="replace") for name, value in message.headers() or []},
    }
    print(json.dumps(record, default=bytes.hex))
