"""Many clients at once: are all pieces made, does each get its own, and what happens to memory.

    mindmusicgen page --port 7860 & python scripts/page/load.py http://127.0.0.1:7860 --process $!

Every client asks for pieces of its own seeds and lengths, one after the other. A piece must have the seed and the
length that were asked for, and be equal to the one that the same seed gives afterwards, when nobody else asks.
"""

import argparse
import hashlib
import threading
import time

import soundfile
from gradio_client import Client


def memory(process):
    """Megabytes that a process has in memory."""
    with open(f"/proc/{process}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def made(client, seed):
    """One piece: its digest. Its seed and its length say whose it is."""
    seconds = 1 + seed % 4 / 2
    said, path = client.predict(prompt="calm piano", duration=seconds, seed=seed, api_name="/generate")
    samples, rate = soundfile.read(path, dtype="int16")
    if (said["seed"], len(samples) / rate) != (seed, seconds):
        raise SystemExit(f"mixed up: seed {seed} and {seconds} s were asked for, {said} came")
    return hashlib.sha256(samples.tobytes()).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--process", type=int, required=True, help="id of the server's process")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--each", type=int, default=5, help="pieces that each client asks for")
    parser.add_argument("--rounds", type=int, default=3, help="times that all of it is done, to see memory")
    arguments = parser.parse_args()
    found = {}

    def ask(number):
        client = Client(arguments.url, verbose=False)
        for piece in range(arguments.each):
            seed = number * arguments.each + piece
            found.setdefault(seed, []).append(made(client, seed))

    made(Client(arguments.url, verbose=False), 3)
    print(f"before: {memory(arguments.process):.0f} MB")
    for number in range(arguments.rounds):
        begun = time.monotonic()
        threads = [threading.Thread(target=ask, args=(client,)) for client in range(arguments.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken, count = time.monotonic() - begun, arguments.clients * arguments.each
        print(f"round {number + 1}: {count} pieces in {taken:.1f} s, {memory(arguments.process):.0f} MB")
    lost = arguments.clients * arguments.each * arguments.rounds - sum(map(len, found.values()))
    alone = Client(arguments.url, verbose=False)
    others = sum(set(digests) != {made(alone, seed)} for seed, digests in found.items())
    print(f"lost: {lost}, mixed up: {others}")


if __name__ == "__main__":
    main()
