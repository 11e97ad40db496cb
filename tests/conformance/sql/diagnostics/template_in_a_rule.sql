SELECT ${payload.a} AS a FROM "t"
