SELECT payload.a.1.100 AS a FROM "t"
