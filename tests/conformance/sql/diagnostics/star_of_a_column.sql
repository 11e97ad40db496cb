SELECT payload.* FROM "t"
