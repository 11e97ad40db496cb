SELECT payload.a AS when FROM "t"
