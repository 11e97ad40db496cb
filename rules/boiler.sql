-- Readings of an old boiler, which sends text like 64;1.31 (degrees and bar) instead of JSON.
INSERT INTO readings
SELECT clientid AS device, 'cellar' AS room, float(nth(1, tokens(payload, ';'))) AS temp
FROM "legacy/boiler"
