SELECT payload.a AS a FROM "t" WHERE payload.a == 1
