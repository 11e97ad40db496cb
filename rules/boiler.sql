-- An old boiler that sends text like 64;1.31 instead of JSON: degrees and bar, made into a reading.
INSERT INTO readings
SELECT clientid AS device, 'cellar' AS room, float(nth(1, tokens(payload, ';'))) AS temp
FROM "legacy/boiler"
