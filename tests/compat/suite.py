"""Redis's own test suite from outside against a server, unit by unit, scored against redis-server.

Usage: suite.py run SUITE OUT.json --server COMMAND [--tags TAGS] [--units FILE|NAME,…] [--left-out FILE]
       suite.py score OURS.json BASE.json LEFT_OUT [--floor PERCENT] [--unit-floor PERCENT]
       suite.py quick SUITE --server COMMAND --units FILE --left-out FILE [--tags TAGS]

A fresh server is started for every unit; {port} and {dir} in COMMAND are replaced. A test that hangs is named,
skipped, and its unit runs again, so that it hides no other. Tests count by name and number: what vanishes because a
block of tests ended early is missing. A file that says what is left out holds lines of a test's name (or /pattern), a
tab and a reason; such tests are not run, because what they leave behind would disturb others, and are no part of the
score. `quick` needs no second server: its file of units says how many tests of each must pass, and none may fail.
"""
import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

COLOUR = re.compile(r'\x1b\[[0-9;]*m')
EVENT = re.compile(r'\[(ok|err|exception|TIMEOUT)\]: ?(.*)')
TOOK = re.compile(r' \(\d+ ms\)$')
PLACE = re.compile(r' in tests/\S+\.tcl$')
HANGING = re.compile(r'=> \(IN PROGRESS\) (.*)$')
STALL_SECONDS = 120
UNIT_SECONDS = 900
RERUNS_MAX = 4


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def answers(port):
    try:
        with socket.create_connection(('127.0.0.1', port), 1) as connection:
            connection.sendall(b'PING\r\n')
            return connection.recv(16)[:1] in (b'+', b'-')
    except OSError:
        return False


class Server:
    """A server in a folder of its own."""

    def __init__(self, command):
        self.port, self.folder = free_port(), tempfile.mkdtemp(prefix='quoris-compat-')
        self.log = open(os.path.join(self.folder, 'server.log'), 'wb')
        line = command.format(port=self.port, dir=self.folder)
        self.process = subprocess.Popen(['bash', '-c', 'exec ' + line], stdout=self.log, stderr=self.log,
                                        cwd=self.folder, start_new_session=True)
        deadline = time.time() + 60
        while not answers(self.port):
            if time.time() > deadline or self.process.poll() is not None:
                end_group(self.process, signal.SIGTERM)
                sys.exit(f'{line}: no answer to PING; see {self.folder}/server.log')
            time.sleep(0.1)

    def stop(self):
        """Whether it was still alive."""
        alive = self.process.poll() is None
        end_group(self.process, signal.SIGTERM)
        self.log.close()
        if alive:
            shutil.rmtree(self.folder, ignore_errors=True)
        return alive


def end_group(process, how):
    for number in (how, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def run_once(*what):
    """The text that one run of a unit printed; the suite's own port may be taken."""
    for _ in range(5):
        text = try_once(*what)
        if 'address already in use' not in text or '[ok]' in text:
            break
    return text


def try_once(suite, unit, port, tags, skipped):
    command = ['./runtest', '--host', '127.0.0.1', '--port', str(port), '--durable', '--single', unit, '--clients', '1',
               '--timeout', str(STALL_SECONDS), '--baseport', str(random.randrange(20000, 30000)), '--portcount', '16',
               '--tags', tags]
    for name in skipped:
        command += ['--skiptest', name]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, cwd=suite, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   start_new_session=True)
        try:
            process.wait(UNIT_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        end_group(process, signal.SIGTERM)
        out.seek(0)
        return COLOUR.sub('', out.read().decode('utf-8', 'replace'))


def read_events(text):
    """What passed, what failed with its message, what hung."""
    passed, failed, hanging, current = [], [], [], None
    for line in text.split('\n'):
        if line.strip() == 'The End':
            break
        event = EVENT.match(line)
        if not event:
            waits = HANGING.search(line)
            if waits:
                hanging.append(waits.group(1))
            elif current is not None:
                current.append(line)
            continue
        kind, name = event.groups()
        current = None
        if kind == 'ok':
            passed.append(TOOK.sub('', name))
        elif kind in ('err', 'exception'):
            current = [PLACE.sub('', name)]
            failed.append(current)
    return passed, [(lines[0], '\n'.join(lines[1:]).strip()[:400]) for lines in failed], hanging


def run_unit(args, unit):
    left_out = read_left_out(args.left_out) if args.left_out else []
    skipped = []
    while True:
        server = Server(args.server)
        passed, failed, hanging = read_events(run_once(args.suite, unit, server.port, args.tags, left_out + skipped))
        died = not server.stop()
        new = [name for name in hanging if name not in skipped]
        skipped += new
        if died or not new or len(skipped) > RERUNS_MAX:
            return {'passed': passed, 'failed': failed, 'hung': skipped, 'died': died}


def read_units(text):
    """Units, and how many of their tests must pass."""
    lines = open(text).read().splitlines() if os.path.exists(text) else text.split(',')
    rows = [line.split() for line in lines if line.strip() and not line.startswith('#')]
    return {row[0]: int(row[1]) if len(row) > 1 else 0 for row in rows}


def show_unit(args, unit):
    began = time.time()
    seen = run_unit(args, unit)
    print(f'{unit:28} {len(seen["passed"]):4} passed {len(seen["failed"]):3} failed {len(seen["hung"]):2} hung'
          f'{"  THE SERVER DIED" if seen["died"] else ""}  {time.time() - began:.0f} s', flush=True)
    for name, message in seen['failed']:
        print(f'    {name}: {message[:200]}')
    for name in seen['hung']:
        print(f'    hangs: {name}')
    return seen


def run(args):
    result = {unit: show_unit(args, unit) for unit in read_units(args.units)}
    with open(args.out, 'w') as out:
        json.dump(result, out, indent=1)


def quick(args):
    bad = []
    for unit, wanted in read_units(args.units).items():
        seen = show_unit(args, unit)
        if seen['failed'] or seen['hung'] or seen['died'] or len(seen['passed']) < wanted:
            bad.append(f'{unit}: {len(seen["passed"])} of {wanted} passed')
    if bad:
        sys.exit('\n'.join(bad))


def read_left_out(path):
    lines = [line.rstrip('\n') for line in open(path) if line.strip() and not line.startswith('#')]
    rows = [line.split('\t') for line in lines]
    wrong = [line for line, row in zip(lines, rows) if len(row) != 2 or not row[1].strip()]
    if wrong:
        sys.exit(f'{path}: name, tab, reason is wanted: {wrong[0]}')
    return [name for name, _ in rows]


def is_left_out(name, patterns):
    return any(re.search(p[1:], name) if p.startswith('/') else p == name for p in patterns)


def score(args):
    ours, base = (json.load(open(path)) for path in (args.ours, args.base))
    patterns = read_left_out(args.left_out)
    all_got, all_wanted, bad = 0, 0, []
    for unit in ours:
        wanted = collections.Counter(n for n in base[unit]['passed'] if not is_left_out(n, patterns))
        out = len(base[unit]['passed']) - sum(wanted.values())
        got = wanted & collections.Counter(ours[unit]['passed'])
        total, count = sum(wanted.values()), sum(got.values())
        all_got, all_wanted = all_got + count, all_wanted + total
        percent = 100 * count / total if total else 100
        print(f'{unit:28} {count:4} of {total:4}  {percent:5.1f} %  {out} left out')
        for name in (wanted - got).elements():
            print(f'    missing: {name}')
        if percent < args.unit_floor or ours[unit]['hung'] or ours[unit]['died']:
            bad.append(unit)
    percent = 100 * all_got / max(all_wanted, 1)
    print(f'{all_got} of {all_wanted} tests that redis-server passes: {percent:.2f} %')
    if bad or percent < args.floor:
        sys.exit(f'below the floor of {args.floor} % ({args.unit_floor} % a unit), hung or died: {bad or "in all"}')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser('run')
    runs.add_argument('suite')
    runs.add_argument('out')
    runs.add_argument('--server', required=True)
    runs.add_argument('--tags', default='-slow')
    runs.add_argument('--units', required=True)
    runs.add_argument('--left-out')
    runs.set_defaults(act=run)
    quicks = commands.add_parser('quick')
    quicks.add_argument('suite')
    quicks.add_argument('--server', required=True)
    quicks.add_argument('--tags', default='-slow')
    quicks.add_argument('--units', required=True)
    quicks.add_argument('--left-out', required=True)
    quicks.set_defaults(act=quick)
    scores = commands.add_parser('score')
    scores.add_argument('ours')
    scores.add_argument('base')
    scores.add_argument('left_out')
    scores.add_argument('--floor', type=float, default=98)
    scores.add_argument('--unit-floor', type=float, default=90)
    scores.set_defaults(act=score)
    args = parser.parse_args()
    args.act(args)


if __name__ == '__main__':
    main()
