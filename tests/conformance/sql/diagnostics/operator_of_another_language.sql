SELECT payload.a ** 2 AS x FROM "t" WHERE payload.temp >> 40
