SELECT payload.temp AS FROM "t"
