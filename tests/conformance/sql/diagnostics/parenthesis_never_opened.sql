SELECT payload.a + 1) AS a FROM "t"
