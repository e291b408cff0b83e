"""DuckDB, driven for `peers`: a request a line on standard input, an answer a line on standard output, both JSON.

DuckDB is a library, and its Python wheel is how most use it; so it runs in this process, and times are taken here, around the call
that its users make. The first line says which file to open, with how many threads and how much memory.
"""

import datetime
import json
import sys
import threading
import time

import duckdb

MASK = (1 << 64) - 1
STEADY = b"a steady part..."


def mix(number):
    """As `rows.rs` has it: what is written here is read back and checked there."""
    z = number * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def row(number):
    def half(salt):
        return mix(number ^ salt).to_bytes(8, "big")

    key = half(0) + half(0x85EBCA6B << 32)
    return key, half(0x5BD1E995 << 32) + half(0xC2B2AE35 << 32) + STEADY


def text(value):
    """A value as PostgreSQL writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.datetime):
        shown = str(value)
        return shown.rstrip("0") if "." in shown else shown
    return str(value)


def ask(connection, request):
    begun = time.perf_counter_ns()
    rows = connection.execute(request["sql"]).fetchall()
    took = time.perf_counter_ns() - begun
    return {"nanos": took, "rows": [[text(value) for value in row] for row in rows]}


def write(connection, writer, request, origin, result):
    """One writer's loop: a transaction a row. What begins before the warm-up's end is not counted.

    The statement is prepared in SQL, since Python's DuckDB has no other way to keep one: parameters would plan it anew each time.
    """
    warm, end = origin + request["warmup_nanos"], origin + request["warmup_nanos"] + request["length_nanos"]
    commits, nanos = 0, []
    try:
        connection.execute("PREPARE one AS INSERT INTO rows VALUES (from_hex($1), from_hex($2))")
        while True:
            key, value = row(writer * request["stride"] + commits)
            statement = f"EXECUTE one('{key.hex()}', '{value.hex()}')"
            begun = time.monotonic_ns()
            if begun >= end:
                break
            connection.execute(statement)
            commits += 1
            if begun >= warm:
                nanos.append(time.monotonic_ns() - begun)
        result[writer] = {"commits": commits, "nanos": nanos}
    except Exception as error:
        result[writer] = error


def commits(connection, request):
    result = [None] * request["writers"]
    origin = time.monotonic_ns()
    threads = [
        threading.Thread(target=write, args=(connection.cursor(), writer, request, origin, result))
        for writer in range(request["writers"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in result:
        if isinstance(one, Exception):
            raise one
    return {"writers": result}


def main():
    opened = json.loads(sys.stdin.readline())
    config = {"threads": opened["threads"], "memory_limit": f"{opened['memory_mib']}MiB"}
    connection = duckdb.connect(opened["file"], config=config)
    # It is printed where the answers are, of whatever takes more than two seconds.
    connection.execute("SET enable_progress_bar = false")
    print(json.dumps({"version": duckdb.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = commits(connection, request) if request["do"] == "commits" else ask(connection, request)
        except Exception as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    connection.close()


main()
