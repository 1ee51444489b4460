"""Prints each EvalFailed as it is committed. Needs kafka-python, protobuf and mendloop.v1 (the core wheel, or your own code from protos/).

    KAFKA_BOOTSTRAP=broker:9092 KAFKA_GROUP=my-team python consumer.py
"""

import os

from kafka import KafkaConsumer
from mendloop.v1 import evaluation_pb2

consumer = KafkaConsumer(
    os.environ.get("KAFKA_TOPIC", "mendloop.eval-failed.v1"),
    bootstrap_servers=os.environ["KAFKA_BOOTSTRAP"],
    group_id=os.environ["KAFKA_GROUP"],
    isolation_level="read_committed",  # services publish in transactions: what was rolled back is no event
    auto_offset_reset="earliest",
    enable_auto_commit=False,
)
left = int(os.environ.get("STOP_AFTER", "0"))
for record in consumer:
    headers = {name: value.decode() for name, value in record.headers}
    event = evaluation_pb2.EvalFailed.FromString(record.value)
    where = ",".join(f"{part.axis}={part.value}" for part in event.slice.conditions)
    print(
        f"EvalFailed id={headers['ce_id']} run={event.position.run_id} slice={where}"
        f" accuracy={event.accuracy.correct}/{event.accuracy.n} low={event.accuracy.low:.3f} high={event.accuracy.high:.3f}",
        flush=True,
    )
    consumer.commit()  # after the work: an event comes at least once, its ce_id tells a repetition
    left -= 1
    if left == 0:
        break
consumer.close()
