SELECT payload.temp AS t AS temp FROM "t"
