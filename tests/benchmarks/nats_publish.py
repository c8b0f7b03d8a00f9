"""`python -m tests.benchmarks.nats_publish`: publishing to a NATS server from threads, against plain nats-py in its own event loop.

Each way publishes so many messages to a topic that nobody hears, and the clock stops when the server has confirmed the last one. A process
each, in turn, round by round; the server is the same. Needs nats-py and a nats-server. With redis-py and a redis-server at
REDIS_URL its PUBLISH is measured, too; without, it is left out.
"""

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from tests.natsserver import NatsServer

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300.0
TOPIC = "benchmark.publish"


def by_threads(url: str, payload: bytes, count: int, threads: int) -> None:
    import bus

    def publish() -> None:
        for _ in range(count // threads):
            bus.publish(TOPIC, payload)

    with bus.open(url):
        workers = [threading.Thread(target=publish) for _ in range(threads)]

        def all_of_it() -> None:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            try:
                bus.request("benchmark.nobody", b"", timeout=60)  # goes out behind what was published
            except bus.NoResponders:
                pass

        clocked(all_of_it)


def nats_py(url: str, payload: bytes, count: int) -> None:
    import nats

    async def publish() -> None:
        client = await nats.connect(url)
        before = figures()
        for _ in range(count):
            await client.publish(TOPIC, payload)
        await client.flush(60)
        report(before)
        await client.close()

    asyncio.run(publish())


def nats_py_submitted(url: str, payload: bytes, count: int) -> None:
    """What a script without a bridge would write: one cross-thread submit for each message."""
    import nats

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    client = asyncio.run_coroutine_threadsafe(nats.connect(url), loop).result()

    def publish() -> None:
        for _ in range(count):
            last = asyncio.run_coroutine_threadsafe(client.publish(TOPIC, payload), loop)
        last.result()
        asyncio.run_coroutine_threadsafe(client.flush(60), loop).result()

    clocked(publish)
    asyncio.run_coroutine_threadsafe(client.close(), loop).result()


def redis_py(url: str, payload: bytes, count: int) -> None:
    client = importlib.import_module("redis").Redis.from_url(os.environ["REDIS_URL"])

    def publish() -> None:
        for _ in range(count):
            client.publish(TOPIC, payload)

    clocked(publish)


WAYS: dict[str, Callable[[str, bytes, int], None]] = {
    "nats-py, in its own loop": nats_py,
    "actorbus, one thread": partial(by_threads, threads=1),
    "actorbus, four threads": partial(by_threads, threads=4),
    "nats-py, one submit a message": nats_py_submitted,
}
if importlib.util.find_spec("redis") is not None and "REDIS_URL" in os.environ:
    WAYS["redis-py"] = redis_py
BASE = next(iter(WAYS))


def figures() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def report(before: tuple[float, float]) -> None:
    print(json.dumps([after - start for after, start in zip(figures(), before, strict=True)]), flush=True)


def clocked(work: Callable[[], object]) -> None:
    before = figures()
    work()
    report(before)


def measure(way: str, url: str, size: int, count: int) -> tuple[float, float]:
    """Seconds and CPU seconds of this process for each message."""
    words = [sys.executable, "-m", __spec__.name, "--way", way, "--url", url, "--size", str(size), "--count", str(count)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True)
    wall, cpu = json.loads(done.stdout)
    return wall / count, cpu / count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.nats_publish", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        WAYS[options.way](options.url, b"x" * options.size, options.count)
        return
    samples: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as directory, NatsServer(Path(directory)) as server:
        for _ in range(options.rounds):
            for way, found in samples.items():
                found.append(measure(way, server.url, options.size, options.count))
    print(f"{options.size} bytes, {options.count} messages, {options.rounds} rounds; medians\n")
    print(f"| way | µs a message | CPU µs | rate against {BASE} |\n|---|---|---|---|")
    for way, found in samples.items():
        # Round by round, because the machine has other neighbours in each.
        ratio = median(base[0] / mine[0] for base, mine in zip(samples[BASE], found, strict=True))
        wall, cpu = (median(column) * 1e6 for column in zip(*found, strict=True))
        print(f"| {way} | {wall:.1f} | {cpu:.1f} | {ratio:.2f} |")
    if "redis-py" not in WAYS:
        print("\nredis-py: left out, it is not installed or REDIS_URL names no server")


if __name__ == "__main__":
    main()
