SELECT payload.x(1) AS x FROM "t"
