"""`kexue-keras serve` under load: 32 clients on the loopback for a minute, beside batch prediction of the same texts.

    python benchmarks/serve.py --run EXPORTED|RUN --texts FILE [--clients 32] [--seconds 60]

Each client sends one text a request, and the next one when the answer is there. Batch prediction runs before and after
in a process of its own. Where the machine does other things too, the texts a second of processor time say more: those
of the server alone. Rows: benchmarks/results/serve.jsonl.
"""

import argparse
import collections
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
from record import add_stack_option, enter_stack, record

BATCH = """
import json, sys, time
from kexue_keras.schemas import is_exported
from kexue_keras.exported.model import ExportedModel
from kexue_keras.finetune import Classifier
run, texts, seconds = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8")), float(sys.argv[3])
model = ExportedModel(run) if is_exported(run) else Classifier.load(run)
model.predict(texts[:64])
begun, used, done = time.time(), time.process_time(), 0
while time.time() - begun < seconds:
    part = texts[done % len(texts) :][:256]
    model.predict(part)
    done += len(part)
print(done / (time.time() - begun), done / (time.process_time() - used))
"""


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run for labels, or exported folder of one")
    parser.add_argument("--texts", required=True, metavar="FILE", help="lines, of which the first column counts")
    parser.add_argument("--clients", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="(%(default)s)")
    add_stack_option(parser)
    args = parser.parse_args()
    enter_stack(args)
    with open(args.texts, encoding="utf-8") as handle:
        texts = [line.split("\t")[0].strip() for line in handle if line.strip()]
    texts_file = os.path.abspath("texts.%d.json" % os.getpid())
    try:
        with open(texts_file, "w", encoding="utf-8") as handle:
            json.dump(texts, handle)
        batches = [batch(args, texts_file)]
        served = load(args, texts)
        batches.append(batch(args, texts_file))
    finally:
        os.remove(texts_file)
    row = dict(served, run=os.path.basename(args.run), clients=args.clients, seconds=args.seconds)
    wall, processor = np.array(batches).T
    row.update(batch_texts_a_second=wall.round(1).tolist(), batch_texts_a_processor_second=processor.round(1).tolist())
    row["of_batch"] = round(row["texts_a_second"] / wall.mean(), 3)
    row["of_batch_by_processor_time"] = round(row["texts_a_processor_second"] / processor.mean(), 3)
    print(record("serve", row))


def batch(args, texts_file):
    """Texts a second of batch prediction: of time, and of processor time."""
    said = subprocess.check_output([sys.executable, "-c", BATCH, args.run, texts_file, str(args.seconds / 3)])
    return [float(value) for value in said.split()[-2:]]


def load(args, texts):
    """Start the server, load it, end it; texts a second, times of answers, errors."""
    command = [sys.executable, "-m", "kexue_keras_launcher", "serve", "--run", args.run, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True)
    try:
        address = next(line for line in server.stdout if "listening" in line).split("//")[1].strip()
        ask(address, texts[0])
        used = processor_seconds(server.pid)
        times, errors, end = [], collections.Counter(), time.time() + args.seconds
        clients = [
            threading.Thread(target=client, args=(address, texts[i :: args.clients], end, times, errors))
            for i in range(args.clients)
        ]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        used = processor_seconds(server.pid) - used
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(30)
    milliseconds = 1000 * np.percentile(times, [50, 95, 99])
    return {
        "texts_a_second": round(len(times) / args.seconds, 1),
        "texts_a_processor_second": round(len(times) / used, 1),
        "milliseconds_50_95_99": [round(float(value), 1) for value in milliseconds],
        "requests": len(times),
        "errors": dict(errors),
        "exit_code": code,
    }


def processor_seconds(number):
    """What a process has used."""
    with open("/proc/%d/stat" % number) as handle:
        fields = handle.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def client(address, texts, end, times, errors):
    """Ask one text after the other until the time is up."""
    number = 0
    while time.time() < end:
        begun = time.perf_counter()
        try:
            ask(address, texts[number % len(texts)])
            times.append(time.perf_counter() - begun)
        except Exception as error:  # each kind is counted
            errors[type(error).__name__] += 1
        number += 1


def ask(address, text):
    """The label of a text."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", "/predict", json.dumps({"texts": [text]}))
        answer = connection.getresponse()
        found = json.loads(answer.read().decode("utf-8"))
        if answer.status != 200:
            raise RuntimeError(found["error"])
        return found["predictions"][0]["label"]
    finally:
        connection.close()


if __name__ == "__main__":
    main()
