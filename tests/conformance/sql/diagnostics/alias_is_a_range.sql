SELECT payload.a AS list[1..3] FROM "t"
