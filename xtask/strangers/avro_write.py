"""Writes records as Confluent's Avro serialiser does, registering the schema under TOPIC-value; prints the schema's id.

avro_write.py BROKERS REGISTRY TOPIC SCHEMA   Each line of standard input: {"key": text, "value": a datum as JSON}.
"""

import json
import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, topic, schema = sys.argv[1:]
client = SchemaRegistryClient({"url": registry})
serialise = AvroSerializer(client, schema)
context = SerializationContext(topic, MessageField.VALUE)
producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5})
failed = []
for line in sys.stdin:
    record = json.loads(line)
    value = serialise(record["value"], context)
    while True:
        try:
            producer.produce(
                topic,
                key=record["key"],
                value=value,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)
if producer.flush(60) or failed:
    sys.exit(f"not written: {failed[:3]}")
print(client.get_latest_version(f"{topic}-value").schema_id)
