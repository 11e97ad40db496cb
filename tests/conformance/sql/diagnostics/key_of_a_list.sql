SELECT payload.list[1..2].name AS a, [1, 2].name AS b FROM "t"
