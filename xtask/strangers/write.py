"""Writes records in one transaction; each is a line of JSON on standard input as read.py prints it, partition optional.

write.py BROKERS TRANSACTIONAL_ID
"""

import json
import sys

from confluent_kafka import Producer

brokers, transactional_id = sys.argv[1:]
producer = Producer({"bootstrap.servers": brokers, "transactional.id": transactional_id})


def data(text):
    return None if text is None else bytes.fromhex(text)


producer.init_transactions(30)
producer.begin_transaction()
for line in sys.stdin:
    record = json.loads(line)
    producer.produce(
        record["topic"],
        partition=record.get("partition", -1),
        key=data(record["key"]),
        value=data(record["value"]),
        headers=[(name, data(value)) for name, value in record["headers"]],
    )
producer.commit_transaction(30)
