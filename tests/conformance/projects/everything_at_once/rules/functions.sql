INSERT INTO readngs
SELECT lowr(payload.a) AS x, substr() AS y
FROM "t/#"
