-- An old boiler that sends text like 64;1.31 instead of JSON: degrees and bar, made into a reading.
INSERT INTO readings (device, room, temp)
SELECT clientid, 'cellar', float(nth(1, tokens(payload, ';')))
FROM "legacy/boiler"
