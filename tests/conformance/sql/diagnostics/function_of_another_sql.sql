SELECT substring(topic, 1) AS rest, ifnull(payload.a, 0) AS a FROM "t"
