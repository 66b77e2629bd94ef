#!/usr/bin/python3
"""The independent oracle: random switches and random frames through the engine and through a model
of it that shares no code, compared byte for byte and drop by drop.

    run.py REPLAY [--packets N] [--seed SEED] [--jobs N]     random cases
    run.py REPLAY --case FILE …                              cases from files

Half of the packets come from a fixed seed, half from a fresh one, which is printed. A disagreement is
made small, printed with the way to repeat it, and ends the run with exit code 1.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import random
import sys
import time

import crosscheck
import replay
import topology
import traffic

FRAMES = 200  # of a case
FIXED_SEED = "podswitch"


def random_case(seed):
    rng = random.Random(seed)
    state, facts = topology.topology(rng)
    events = [{"state": state, "facts": facts}]
    source = traffic.Traffic(rng, state, facts)
    now = rng.randrange(1_000_000)
    changes = rng.random() < 0.2
    while len(events) <= FRAMES:
        if changes and rng.random() < 0.01:
            state, facts = topology.changed(rng, state, facts)
            events.append({"state": state, "facts": facts})
            source = traffic.Traffic(rng, state, facts)
        port, frame = source.frame()
        events.append([port, now, frame.hex()])
        if rng.random() < 0.3:
            now += rng.choice([1, 10, 500, 999, 1000, 1001, 5000, 60_000, 300_000])
        if rng.random() < 0.01:  # more than storm control lets pass
            events += [events[-1]] * rng.randrange(10, 60)
        if rng.random() < 0.1:
            again = rng.choice([e for e in events if isinstance(e, list)])
            events.append([again[0], now, again[2]])
    return {"fdb_capacity": 4096, "events": events}


def packets(case):
    return sum(isinstance(e, list) for e in case["events"])


def work(job):
    """Runs random cases of one seed until `count` packets are compared: what happened by name, and
    the disagreement if there is one."""
    binary, seed, count = job
    engine, told, compared, number = replay.Engine(binary), {}, 0, 0
    flows = replay.Flows()
    case = random_case(f"{seed}/{number}")
    while compared < count:
        engine.start(case)
        following = random_case(f"{seed}/{number + 1}")  # made while the engine works
        answer = engine.answer()
        try:
            replay.compare(case, answer, flows, told)
            crosscheck.outputs(answer, number)
        except replay.Disagreement as found:
            small = replay.shrunk(engine, case) if replay.difference(engine, case) else case
            what = replay.difference(engine, small) or str(found)
            return compared, told, {"what": what, "seed": f"{seed}/{number}", "case": small}
        compared += packets(case)
        number, case = number + 1, following
        flows = flows if len(flows.headers) + len(flows.ways) < 100_000 else replay.Flows()
    engine.end()
    return compared, told, None


def report(found, binary):
    path = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"podswitch-oracle-{os.getpid()}.json"
    path.write_text(json.dumps(found["case"], indent=1))
    print(f"oracle: DISAGREEMENT in case {found['seed']}:\n{found['what'][:4000]}\n")
    for event in found["case"]["events"][:12]:
        print(json.dumps(event)[:4000])
    print(f"\nThe case, made small, is in {path}. Again: {sys.argv[0]} {binary} --case {path}")
    print("Once understood, give it a name and put it into tests/oracle/cases/.")


def run_files(binary, files):
    engine, failed = replay.Engine(binary), 0
    for file in files:
        what = replay.difference(engine, json.loads(pathlib.Path(file).read_text()))
        if what:
            print(f"oracle: {file}: {what}")
            failed += 1
    engine.end()
    print(f"oracle: {len(files)} named cases, {failed} disagreements")
    return failed


def main():
    parser = argparse.ArgumentParser(description="The independent oracle.")
    parser.add_argument("replay")
    parser.add_argument("--packets", type=int, default=100_000)
    parser.add_argument("--seed", help="instead of the fixed and a fresh one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--case", nargs="+")
    args = parser.parse_args()
    if args.case:
        return 1 if run_files(args.replay, args.case) else 0

    named = sorted(str(p) for p in (pathlib.Path(__file__).parent / "cases").glob("*.json"))
    failed = run_files(args.replay, named) if named else 0
    crosscheck.builders()
    fresh = random.SystemRandom().randrange(1 << 32)
    seeds = [args.seed] if args.seed else [FIXED_SEED, str(fresh)]
    print(f"oracle: seeds {' and '.join(seeds)}", flush=True)
    share = -(-args.packets // (args.jobs * len(seeds)))
    jobs = [(args.replay, f"{seed}.{n}", share) for seed in seeds for n in range(args.jobs)]
    started, compared, told = time.monotonic(), 0, {}
    with multiprocessing.Pool(args.jobs) as pool:
        for count, names, found in pool.imap_unordered(work, jobs, chunksize=1):
            compared += count
            for name, n in names.items():
                told[name] = told.get(name, 0) + n
            if found:
                report(found, args.replay)
                failed += 1
    seconds = time.monotonic() - started
    print(f"oracle: {compared} packets compared in {seconds:.0f} s, {failed} disagreements")
    print("oracle: " + ", ".join(f"{n} {name}" for name, n in sorted(told.items(), key=lambda i: -i[1])))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
