-- Queries over the sample files: each runs over the loaded table, straight over the file, and in DuckDB.
-- {flights} {birds} {zips} {weather} {sp500} stand for the table or the file. Every result has one order.

-- name: count
SELECT count(*) AS n FROM {flights} f;
-- name: count_non_null
SELECT count(delay) AS d, count(origin) AS o FROM {flights} f;
-- name: top_origins
SELECT origin, count(*) AS n, round(avg(delay), 2) AS d FROM {flights} f GROUP BY origin ORDER BY n DESC, origin LIMIT 5;
-- name: group_by_two
SELECT origin, destination, count(*) AS n, min(delay) AS lo, max(delay) AS hi FROM {flights} f GROUP BY origin, destination ORDER BY n DESC, origin, destination LIMIT 20;
-- name: having
SELECT destination, count(*) AS n FROM {flights} f GROUP BY destination HAVING count(*) > 100 ORDER BY n DESC, destination;
-- name: filter_range
SELECT count(*) AS n, min(distance) AS lo, max(distance) AS hi FROM {flights} f WHERE date >= TIMESTAMP '2001-03-01 00:00:00' AND date < TIMESTAMP '2001-03-08 00:00:00';
-- name: filter_text
SELECT date, delay, distance, destination FROM {flights} f WHERE origin = 'ANC' ORDER BY date, delay, distance, destination LIMIT 25;
-- name: filter_in_or_not
SELECT origin, count(*) AS n FROM {flights} f WHERE origin IN ('SEA', 'PDX', 'SFO') AND NOT (delay < 0 OR delay > 60) GROUP BY origin ORDER BY origin;
-- name: like_and_case
SELECT CASE WHEN delay < 0 THEN 'early' WHEN delay = 0 THEN 'on time' WHEN delay < 30 THEN 'late' ELSE 'very late' END AS class, count(*) AS n FROM {flights} f WHERE destination LIKE 'S%' GROUP BY 1 ORDER BY 1;
-- name: distinct
SELECT DISTINCT origin FROM {flights} f WHERE distance > 2500 ORDER BY origin;
-- name: distinct_count
SELECT count(DISTINCT origin) AS o, count(DISTINCT destination) AS d, count(DISTINCT distance) AS m FROM {flights} f;
-- name: date_trunc_month
SELECT date_trunc('month', date) AS month, count(*) AS n, sum(distance) AS miles FROM {flights} f GROUP BY 1 ORDER BY 1;
-- name: extract_hour
SELECT extract(hour FROM date) AS h, round(avg(delay), 3) AS d FROM {flights} f GROUP BY 1 ORDER BY 1;
-- name: filter_clause
SELECT count(*) FILTER (WHERE delay > 0) AS late, count(*) FILTER (WHERE delay <= 0) AS punctual, sum(delay) FILTER (WHERE origin = 'ATL') AS atl FROM {flights} f;
-- name: stddev_and_variance
SELECT round(stddev(delay), 4) AS s, round(var_pop(distance), 3) AS v, round(corr(delay, distance), 6) AS c FROM {flights} f;
-- name: percentile
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY delay) AS median, percentile_cont(0.9) WITHIN GROUP (ORDER BY distance) AS far FROM {flights} f;
-- name: string_agg
SELECT string_agg(origin, ',' ORDER BY origin) AS all_of_them FROM (SELECT DISTINCT origin FROM {flights} f WHERE origin < 'AM') o;
-- name: array_agg
SELECT origin, array_to_string(array_agg(DISTINCT destination ORDER BY destination), ' ') AS d FROM {flights} f WHERE origin IN ('ACV', 'ADQ', 'BET') GROUP BY origin ORDER BY origin;
-- name: join_self
SELECT a.origin, count(*) AS n FROM {flights} a JOIN {flights} b ON a.origin = b.destination AND a.destination = b.origin AND date_trunc('day', a.date) = date_trunc('day', b.date) WHERE a.delay > 45 GROUP BY a.origin ORDER BY n DESC, a.origin LIMIT 10;
-- name: join_zips
SELECT z.state, count(*) AS n FROM {zips} z JOIN (SELECT DISTINCT state FROM {zips} y WHERE latitude > 45) n ON n.state = z.state GROUP BY z.state ORDER BY z.state;
-- name: left_join
SELECT o.origin, count(d.destination) AS n FROM (SELECT DISTINCT origin FROM {flights} f) o LEFT JOIN {flights} d ON d.destination = o.origin AND d.distance > 2000 GROUP BY o.origin ORDER BY n DESC, o.origin LIMIT 15;
-- name: full_join
SELECT count(*) AS n, count(a.state) AS l, count(b.state) AS r FROM (SELECT DISTINCT state FROM {zips} z WHERE city LIKE 'A%') a FULL JOIN (SELECT DISTINCT state FROM {zips} z WHERE city LIKE 'Z%') b ON a.state = b.state;
-- name: scalar_subquery
SELECT count(*) AS n FROM {flights} f WHERE distance > (SELECT avg(distance) FROM {flights} g);
-- name: exists_correlated
SELECT state, count(*) AS n FROM {zips} z WHERE EXISTS (SELECT 1 FROM {zips} y WHERE y.state = z.state AND y.latitude > 48) GROUP BY state ORDER BY state;
-- name: in_subquery
SELECT count(*) AS n FROM {flights} f WHERE origin IN (SELECT destination FROM {flights} g WHERE distance > 3000);
-- name: not_in_subquery
SELECT DISTINCT origin FROM {flights} f WHERE origin NOT IN (SELECT destination FROM {flights} g WHERE distance > 100) ORDER BY origin;
-- name: cte
WITH busy AS (SELECT origin, count(*) AS n FROM {flights} f GROUP BY origin), top AS (SELECT * FROM busy WHERE n > 300) SELECT count(*) AS airports, sum(n) AS flights FROM top;
-- name: recursive_cte
WITH RECURSIVE days(d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM days WHERE d < 9) SELECT d, count(z.zip_code) AS n FROM days LEFT JOIN {zips} z ON length(z.city) = d GROUP BY d ORDER BY d;
-- name: window_rank
SELECT origin, n, r FROM (SELECT origin, count(*) AS n, rank() OVER (ORDER BY count(*) DESC, origin) AS r FROM {flights} f GROUP BY origin) x WHERE r <= 8 ORDER BY r;
-- name: window_running
SELECT date, close, round(avg(close) OVER (ORDER BY date ROWS BETWEEN 4 PRECEDING AND CURRENT ROW), 4) AS ma FROM {sp500} s ORDER BY date LIMIT 40;
-- name: window_lag_partition
SELECT state, zip_code, lag(zip_code) OVER (PARTITION BY state ORDER BY zip_code) AS before FROM {zips} z WHERE state IN ('RI', 'DE', 'DC') ORDER BY state, zip_code;
-- name: union_all
SELECT 'o' AS side, origin AS code, count(*) AS n FROM {flights} f WHERE origin < 'AC' GROUP BY origin UNION ALL SELECT 'd', destination, count(*) FROM {flights} f WHERE destination < 'AC' GROUP BY destination ORDER BY 1, 2;
-- name: except_intersect
(SELECT state FROM {zips} z WHERE latitude > 45 EXCEPT SELECT state FROM {zips} z WHERE latitude < 40) INTERSECT SELECT state FROM {zips} z ORDER BY state;
-- name: grouping_sets
SELECT state, substring(zip_code, 1, 1) AS area, count(*) AS n FROM {zips} z WHERE state IN ('NY', 'NJ', 'CT') GROUP BY GROUPING SETS ((state), (substring(zip_code, 1, 1)), ()) ORDER BY state NULLS LAST, area NULLS LAST;
-- name: rollup
SELECT state, city, count(*) AS n FROM {zips} z WHERE state IN ('HI', 'RI') AND city < 'L' GROUP BY ROLLUP (state, city) ORDER BY state NULLS LAST, city NULLS LAST;
-- name: leading_zeros
SELECT zip_code, city, state FROM {zips} z WHERE zip_code < '01100' ORDER BY zip_code;
-- name: key_lookup
SELECT * FROM {zips} z WHERE zip_code = '00501';
-- name: key_range
SELECT zip_code, county FROM {zips} z WHERE zip_code BETWEEN '98100' AND '98299' ORDER BY zip_code;
-- name: key_order_limit
SELECT zip_code FROM {zips} z ORDER BY zip_code DESC LIMIT 7;
-- name: offset
SELECT zip_code, latitude, longitude FROM {zips} z ORDER BY latitude DESC, zip_code LIMIT 5 OFFSET 10;
-- name: spaces_in_names
SELECT "Wildlife Size", count(*) AS n, sum("Cost Total $") AS cost, round(avg("Speed IAS in knots"), 2) AS speed FROM {birds} b GROUP BY "Wildlife Size" ORDER BY n DESC, "Wildlife Size";
-- name: nulls
SELECT count(*) AS n, count("Speed IAS in knots") AS known, count("Time of day") AS t, sum(CASE WHEN "Effect Amount of damage" IS NULL THEN 1 ELSE 0 END) AS unknown FROM {birds} b;
-- name: nulls_order
SELECT "Flight Date", "Airport Name", "Speed IAS in knots" FROM {birds} b WHERE "Origin State" = 'Texas' ORDER BY "Speed IAS in knots" DESC NULLS FIRST, "Flight Date", "Airport Name" LIMIT 12;
-- name: dates
SELECT extract(year FROM "Flight Date") AS y, count(*) AS n, min("Flight Date") AS first, max("Flight Date") AS last FROM {birds} b GROUP BY 1 ORDER BY 1;
-- name: text_functions
SELECT upper("Phase of flight") AS phase, max(length("Wildlife Species")) AS longest, min(replace("Origin State", ' ', '_')) AS s FROM {birds} b WHERE "Phase of flight" IS NOT NULL GROUP BY 1 ORDER BY 1;
-- name: coalesce_nullif
SELECT coalesce(nullif("Time of day", 'Day'), '-') AS t, count(*) AS n FROM {birds} b GROUP BY 1 ORDER BY 1;
-- name: decimals
SELECT count(*) AS n, min(temperature) AS lo, max(temperature) AS hi, round(sum(pressure), 1) AS p FROM {weather} w;
-- name: timestamps
SELECT date, temperature, wind FROM {weather} w WHERE date >= TIMESTAMP '2010-07-01 00:00:00' AND wind > 3.9 ORDER BY date LIMIT 20;
-- name: big_integers
SELECT date, volume, volume * 1000 AS more FROM {sp500} s WHERE volume > 2147483647 ORDER BY volume DESC, date LIMIT 10;
-- name: arithmetic
SELECT date, round(high - low, 4) AS spread, round(100 * (close - open) / open, 3) AS pct FROM {sp500} s ORDER BY date LIMIT 15;
-- name: max_by_subquery
SELECT s.date, s.close FROM {sp500} s WHERE s.close = (SELECT max(close) FROM {sp500} t);
-- name: cross_join
SELECT count(*) AS n FROM (SELECT DISTINCT state FROM {zips} z) a CROSS JOIN (SELECT DISTINCT origin FROM {flights} f WHERE origin < 'B') b;
-- name: lateral
SELECT z.state, t.city FROM (SELECT DISTINCT state FROM {zips} y WHERE state < 'B') z CROSS JOIN LATERAL (SELECT max(city) AS city FROM {zips} x WHERE x.state = z.state) t ORDER BY z.state;
-- name: values_join
SELECT v.code, v.name, count(*) AS n FROM (VALUES ('SEA', 'Seattle'), ('LAX', 'Los Angeles')) AS v(code, name) JOIN {flights} f ON f.origin = v.code GROUP BY v.code, v.name ORDER BY v.code;
