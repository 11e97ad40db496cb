SELECT payload.list[1:2] AS t FROM "t"
