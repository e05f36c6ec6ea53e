"""Reads topics from their starts to their ends, committed records only; prints each as a line of JSON.

read.py BROKERS TOPIC,…   Bytes are in base16, none is null; headers are in their order.
"""

import json
import sys

from committed import messages

brokers, topics = sys.argv[1], sys.argv[2].split(",")


def text(value):
    return None if value is None else value.hex()


for message in messages(brokers, topics):
    record = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "key": text(message.key()),
        "value": text(message.value()),
        "headers": [[name, text(value)] for name, value in message.headers() or []],
    }
    print(json.dumps(record))
