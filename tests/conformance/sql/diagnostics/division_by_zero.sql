SELECT payload.a / 0 AS a FROM "t"
