SELECT payload.list[1.5] AS x FROM "t"
