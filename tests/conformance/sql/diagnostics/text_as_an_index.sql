SELECT payload.map['key'] AS x FROM "t"
