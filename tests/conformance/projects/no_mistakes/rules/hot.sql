INSERT INTO readings SELECT payload.temp AS temp FROM "t"
