#!/usr/bin/env python3
"""Writes the expected answers of tests/queries from DuckDB, which shares no code with OmenDB.

    pip install duckdb==2.0.0 && python3 tests/expected/regenerate.py

For each query of files.sql: <name>.csv on the samples as they are, and changed/<name>.csv after changes.sql.
With a directory as argument (the full data files) it prints the answers over those instead, into that directory's
place given as a second argument.
"""
import csv
import pathlib
import re
import sys

import duckdb

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SAMPLES = {
    "flights": "flights.parquet", "birds": "birdstrikes.csv", "zips": "zipcodes.csv",
    "weather": "weather.csv", "sp500": "sp500.csv",
}
FULL = {
    "flights": "flights-3m.parquet", "birds": "birdstrikes.csv", "zips": "zipcodes.csv",
    "weather": "seattle-weather-hourly-normals.csv", "sp500": "sp500-2000.csv",
}


def queries(text):
    for name, sql in re.findall(r"-- name: (\w+)\n(.*?);\n", text, re.S):
        yield name, sql


def write(connection, sql, path):
    cursor = connection.execute(sql)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column[0] for column in cursor.description])
        for row in cursor.fetchall():
            writer.writerow(["NULL" if value is None else value for value in row])


def run(directory, files, out):
    connection = duckdb.connect()
    for table, file in files.items():
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM '{directory / file}'")
    text = (ROOT / "tests/queries/files.sql").read_text()
    for name, sql in queries(text):
        write(connection, re.sub(r"\{(\w+)\}", r"\1", sql), out / f"{name}.csv")
    changes = (ROOT / "tests/queries/changes.sql").read_text()
    for statement in re.sub(r"--.*", "", changes).split(";"):
        if statement.strip():
            connection.execute(statement)
    for name, sql in queries(text):
        write(connection, re.sub(r"\{(\w+)\}", r"\1", sql), out / "changed" / f"{name}.csv")


if len(sys.argv) == 3:
    run(pathlib.Path(sys.argv[1]), FULL, pathlib.Path(sys.argv[2]))
else:
    run(ROOT / "samples", SAMPLES, HERE)
