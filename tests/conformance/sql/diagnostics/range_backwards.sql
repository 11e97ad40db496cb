SELECT [3..1] AS a FROM "t"
