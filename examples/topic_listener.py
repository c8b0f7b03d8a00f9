"""Listens to every sensor, whichever there are. With its sensor: actorbus run examples/topic_*.py"""

import bus

with bus.subscribe("readings.>") as readings:
    print("status:", bus.request("sensor.hall.status", "", timeout=20).text)
    bus.request("sensor.hall.start", "", timeout=20)
    for msg in readings:
        if msg.topic.endswith(".over"):
            break
        celsius = msg.json()["celsius"]
        print(msg.topic, celsius, "alarm" if celsius > 30 else "fine")
