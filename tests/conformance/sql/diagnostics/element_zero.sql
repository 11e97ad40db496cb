SELECT payload.list[0] AS first FROM "t"
