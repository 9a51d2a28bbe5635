#!/usr/bin/env python3
"""Writes facts.tsv: what Redis and Valkey say about each of their commands.

    facts.py COMMANDS.TSV PORT > facts.tsv

COMMANDS.TSV has a line per command with its group, name, versions, arity, flags and what this project makes of it.
PORT is a redis-server that is asked for the positions of keys. Only facts are taken, no sentences.
"""

import csv
import socket
import sys


def ask(port, *words):
    """Sends one command and reads its reply in RESP2."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        request = "*%d\r\n" % len(words) + "".join("$%d\r\n%s\r\n" % (len(w), w) for w in words)
        connection.sendall(request.encode())
        return reply(connection.makefile("rb"))


def reply(stream):
    line = stream.readline().decode().rstrip("\r\n")
    kind, rest = line[0], line[1:]
    if kind == "*":
        return [reply(stream) for _ in range(max(int(rest), 0))]
    if kind == "$":
        return stream.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else None
    return int(rest) if kind == ":" else rest


def positions(port):
    """Full name of each command to the first, last and step of its keys."""
    found = {}
    for command in ask(port, "COMMAND"):
        for row in [command] + command[9]:
            found[row[0]] = ",".join(map(str, row[3:6]))
    return found


def main():
    source, port = sys.argv[1], int(sys.argv[2])
    keys = positions(port)
    print("# name\tgroup\tarity\tflags\tkeys in redis-server\tsince Redis\tsince Valkey\tstatus")
    with open(source, newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            name = row["command"].lower().replace(" ", "|")
            group = row["group"].replace("_", "-")
            facts = [name, group, row["arity"] or "-", row["flags"] or "-", keys.get(name, "-"),
                     row["since_redis"], row["since_valkey"], row["suggestion"]]
            print("\t".join(facts))


if __name__ == "__main__":
    main()
