SELECT avg(payload.temp) AS mean FROM "t"
