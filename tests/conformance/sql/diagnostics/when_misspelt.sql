SELECT CASE WEHN payload.a = 1 THEN 'x' END AS a FROM "t"
