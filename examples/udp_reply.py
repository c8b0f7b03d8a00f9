"""Answers datagrams, and asks itself: `python examples/udp_reply.py`. One program plays both parts to show both ends."""

import bus

with bus.bind("udp://127.0.0.1:0") as server, bus.connect(f"udp://{server.address}") as client:
    client.send({"question": "what time is it?"})
    question = server.receive(timeout=5)
    if question:
        print("asked by", question.source, ":", question.json()["question"])
        server.send_to(question.source, "time to go home")
    answer = client.receive(timeout=5)
    print("answer:", answer.text if answer else "lost; UDP promises nothing")
    print(client.stats())
