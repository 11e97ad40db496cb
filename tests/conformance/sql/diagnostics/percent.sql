SELECT payload.a % 2 AS odd FROM "t"
