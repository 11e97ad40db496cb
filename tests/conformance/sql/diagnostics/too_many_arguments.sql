SELECT topic(1, 2) AS level, upper('a', 'b') AS u FROM "t"
