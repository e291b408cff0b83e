-- Changes made between two rounds of the queries, in our tables and in DuckDB's alike.
UPDATE flights SET delay = delay + 10 WHERE origin = 'SEA';
UPDATE flights SET distance = distance * 2, destination = 'XXX' WHERE origin = 'ANC' AND delay > 30;
DELETE FROM flights WHERE origin IN ('ATL', 'ORD') AND delay BETWEEN 0 AND 5;
DELETE FROM flights WHERE destination IN (SELECT destination FROM flights WHERE distance > 4000);
INSERT INTO flights SELECT date + INTERVAL '1 day', delay, distance, destination, origin FROM flights WHERE origin = 'JFK' AND delay > 60;
UPDATE zips SET city = upper(city) WHERE state = 'WA';
UPDATE zips SET zip_code = '99999' WHERE zip_code = '98101';
DELETE FROM zips WHERE state = 'NY' AND zip_code > '00600';
INSERT INTO zips VALUES ('00000', 0.5, -0.5, 'Null Island', 'NI', NULL);
DELETE FROM zips WHERE county IS NULL AND state <> 'NI';
UPDATE birds SET "Cost Total $" = NULL WHERE "Wildlife Size" = 'Small';
DELETE FROM birds WHERE "Flight Date" < DATE '1992-01-01';
UPDATE weather SET temperature = -temperature WHERE wind > 3.95;
DELETE FROM sp500 WHERE volume < 1000000000;
