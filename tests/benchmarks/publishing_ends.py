"""Publishing from one process: so many messages, and the server's word that the last one has come."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any

from .end import Gate, Spent, say

TOPIC = "benchmark.publish"
BOUND = 60
PIPELINE = 100


def clocked(gate: Gate, publish: Callable[[int], object]) -> None:
    """`publish(count)` publishes, and returns when it is confirmed."""
    publish(gate.cell.warm)
    gate.wait_to_start()
    before, begun = Spent.so_far(), time.perf_counter()
    publish(gate.cell.count)
    finish(gate, begun, before)


def finish(gate: Gate, begun: float, before: Spent) -> None:
    say({"count": gate.cell.count, "wall": time.perf_counter() - begun, **asdict(Spent.so_far() - before)})
    input()


def one_thread(url: str, gate: Gate) -> None:
    by_threads(url, gate, 1)


def four_threads(url: str, gate: Gate) -> None:
    by_threads(url, gate, 4)


def by_threads(url: str, gate: Gate, threads: int) -> None:
    import bus

    payload = gate.payload

    def some(count: int) -> None:
        for _ in range(count):
            bus.publish(TOPIC, payload)

    def publish(count: int) -> None:
        workers = [threading.Thread(target=some, args=(count // threads,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        try:
            bus.request("benchmark.nobody", b"", timeout=BOUND)  # goes out behind what was published
        except bus.NoResponders:
            pass

    with bus.open(url):
        clocked(gate, publish)


def nats_py(url: str, gate: Gate) -> None:
    import nats

    async def run() -> None:
        client, payload = await nats.connect(url), gate.payload

        async def publish(count: int) -> None:
            for _ in range(count):
                await client.publish(TOPIC, payload)
            await client.flush(BOUND)

        await publish(gate.cell.warm)
        gate.wait_to_start()
        before, begun = Spent.so_far(), time.perf_counter()
        await publish(gate.cell.count)
        finish(gate, begun, before)
        await client.close()

    asyncio.run(run())


def nats_py_submitted(url: str, gate: Gate) -> None:
    """What a script without a bridge would write: one cross-thread submit for each message."""
    import nats

    loop, payload = asyncio.new_event_loop(), gate.payload
    threading.Thread(target=loop.run_forever, daemon=True).start()
    client = asyncio.run_coroutine_threadsafe(nats.connect(url), loop).result()

    def publish(count: int) -> None:
        for _ in range(count):
            last = asyncio.run_coroutine_threadsafe(client.publish(TOPIC, payload), loop)
        last.result()
        asyncio.run_coroutine_threadsafe(client.flush(BOUND), loop).result()

    clocked(gate, publish)
    asyncio.run_coroutine_threadsafe(client.close(), loop).result()


def redis_single(url: str, gate: Gate) -> None:
    client, payload = _redis(url), gate.payload

    def publish(count: int) -> None:
        for _ in range(count):
            client.publish(TOPIC, payload)

    clocked(gate, publish)


def redis_pipelines(url: str, gate: Gate) -> None:
    client, payload = _redis(url), gate.payload

    def publish(count: int) -> None:
        for _ in range(count // PIPELINE):
            with client.pipeline(transaction=False) as pipeline:
                for _ in range(PIPELINE):
                    pipeline.publish(TOPIC, payload)
                pipeline.execute()

    clocked(gate, publish)


def _redis(url: str) -> Any:
    return import_module("redis").Redis.from_url(url, socket_timeout=BOUND)
