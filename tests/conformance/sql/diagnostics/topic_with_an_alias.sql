SELECT x.clientid FROM "t" AS x
