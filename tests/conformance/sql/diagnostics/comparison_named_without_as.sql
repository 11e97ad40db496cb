SELECT payload.a = 1 same FROM "t"
