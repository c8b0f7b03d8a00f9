"""A sensor that publishes what it measures, and answers how it is. With its listener: actorbus run examples/topic_*.py

The same two scripts on two machines, with a NATS server between them, the sensor first: actorbus run --bus nats://host:4222 …
"""

import threading

import bus

TEMPERATURES = [20.5, 20.7, 21.0, 35.2, 21.1]
over = threading.Event()


def status(msg: bus.TopicMessage) -> dict[str, object]:
    return {"sensor": "hall", "readings": len(TEMPERATURES)}


def start(msg: bus.TopicMessage) -> str:
    over.set()
    return "here they come"


with bus.respond("sensor.hall.status", status), bus.respond("sensor.hall.start", start):
    over.wait(30)
    for celsius in TEMPERATURES:
        bus.publish("readings.hall.temperature", {"celsius": celsius})
    bus.publish("readings.hall.over", "")
